// What the ops for CPU tensors share.
#pragma once

#include <memory>

#include "cpu/numeric.h"
#include "torch/common.h"

namespace lesionkit {

// About 20 microseconds of memory traffic: less is not worth waking a thread for.
constexpr int64_t kElementsPerTask = 32768;

template <class T>
const T* input(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* output(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline std::unique_ptr<char[]> allocate(int64_t bytes) {
  return std::make_unique_for_overwrite<char[]>(bytes);
}

template <class Body>
void with_stored_type(const Tensor& tensor, const char* name, const Body& body) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return body(double{});
    case ScalarType::Float:
      return body(float{});
    case ScalarType::Half:
      return body(cpu::Half{});
    case ScalarType::BFloat16:
      return body(cpu::BFloat16{});
    default:
      STD_TORCH_CHECK(false, name, " must be float64, float32, float16 or bfloat16");
  }
}

}  // namespace lesionkit
