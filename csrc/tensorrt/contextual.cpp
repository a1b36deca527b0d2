#include "cuda/launch.h"
#include "tensorrt/attention.h"

namespace lesionkit::tensorrt {
namespace {

int launch(const AttentionSizes& sizes, int type, const void* const* inputs, void* y,
           const float* temperatures, void* stream) {
  return lesionkit_contextual_forward(inputs[0], inputs[1], y, type, type, sizes.samples,
                                      sizes.images, sizes.channels * sizes.cells, temperatures[0],
                                      stream);
}

constexpr AttentionOp op{"ContextualAttention", 1, {"logits"}, {"temperature"}, nullptr, launch};

}  // namespace

nvinfer1::IPluginCreatorInterface* contextual_creator(const Log& log) {
  return new_attention_creator(log, op);
}

}  // namespace lesionkit::tensorrt
