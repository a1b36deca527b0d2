#include "cuda/launch.h"
#include "tensorrt/attention.h"

namespace lesionkit::tensorrt {
namespace {

int launch(const AttentionSizes& sizes, int type, const void* const* inputs, void* y,
           const float* temperatures, void* stream) {
  return lesionkit_dual_forward(inputs[0], inputs[1], inputs[2], y, type, type, sizes.samples,
                                sizes.images, sizes.channels, sizes.cells, temperatures[0],
                                temperatures[1], stream);
}

constexpr AttentionOp op{"DualAttention",
                         2,
                         {"contextual_logits", "spatial_logits"},
                         {"contextual_temperature", "spatial_temperature"},
                         lesionkit_dual_largest_images,
                         launch};

}  // namespace

nvinfer1::IPluginCreatorInterface* dual_creator(const Log& log) {
  return new_attention_creator(log, op);
}

}  // namespace lesionkit::tensorrt
