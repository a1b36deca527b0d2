// What the ops for CUDA tensors share: from tensors to the launchers' pointers, types and stream.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "cuda/launch.h"
#include "torch/common.h"

namespace lesionkit {

// Makes a tensor's device the current one, and knows torch's stream on it.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream_));
  }
  void* stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_ = nullptr;
};

inline int stored_type(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return LESIONKIT_FLOAT32;
    case ScalarType::Half:
      return LESIONKIT_FLOAT16;
    case ScalarType::BFloat16:
      return LESIONKIT_BFLOAT16;
    default:
      STD_TORCH_CHECK(false, name, " must be float32, float16 or bfloat16 on a CUDA device; ",
                      "convert it, or use_backend(\"reference\") for float64");
  }
}

inline void check_launch(int error, const char* op) {
  STD_TORCH_CHECK(error == 0, "lesionkit.", op, " could not be launched: ",
                  lesionkit_error_string(error));
}

}  // namespace lesionkit
