// The attention plugins: x and one or two logits, [B, M, D, H, W] of one type, to y like x.
#pragma once

#include <cstdint>

#include "tensorrt/plugin.h"

namespace lesionkit::tensorrt {

struct AttentionSizes {
  int64_t samples, images, channels, cells;  // B, M, D, H * W
};

// What tells one attention from another.
struct AttentionOp {
  const char* name;
  int num_logits;
  const char* logits[2];
  const char* temperatures[2];  // fields, as many as logits
  int64_t (*most_images)();     // null: any number
  // Queues the kernel: a cudaError_t. All tensors are of the launchers' type `type`.
  int (*launch)(const AttentionSizes& sizes, int type, const void* const* inputs, void* y,
                const float* temperatures, void* stream);
};

// Lives as long as the process; so must `log` and `op`.
nvinfer1::IPluginCreatorInterface* new_attention_creator(const Log& log, const AttentionOp& op);

}  // namespace lesionkit::tensorrt
