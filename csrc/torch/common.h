// What the ops for CPU tensors share, on the libtorch stable ABI.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <memory>

#include "cpu/numeric.h"

namespace lesionkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// About 20 microseconds of memory traffic: less is not worth waking a thread for.
constexpr int64_t kElementsPerTask = 32768;

inline Tensor as_type(const Tensor& tensor, const Tensor& like) {
  return tensor.scalar_type() == like.scalar_type()
             ? tensor
             : torch::stable::to(tensor, like.scalar_type());
}

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
