// What the attention ops for CPU tensors share: checks, the choice of types, and threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>
#include <type_traits>

#include "cpu/attention.h"

namespace lesionkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check_like_x(const Tensor& x, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(x.dim() == 5, "x must be [B, M, D, H, W], got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(other.dim() == 5, name, " must have x's 5 dimensions, got ", other.dim());
  for (int64_t axis = 0; axis < 5; ++axis) {
    STD_TORCH_CHECK(other.size(axis) == x.size(axis), name, " must have x's shape, but is ",
                    other.size(axis), " instead of ", x.size(axis), " along axis ", axis);
  }
}

inline void check_temperature(double temperature, const char* name) {
  STD_TORCH_CHECK(std::isfinite(temperature) && temperature > 0, name,
                  " must be finite and above 0, got ", temperature);
}

inline Tensor contiguous_as(const Tensor& tensor, ScalarType type) {
  return torch::stable::contiguous(
      tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

inline Tensor as_type(const Tensor& tensor, const Tensor& like) {
  return tensor.scalar_type() == like.scalar_type()
             ? tensor
             : torch::stable::to(tensor, like.scalar_type());
}

// The type that a tensor is read in beside another: its own, since the kernels convert while they
// load, except that float64 is combined with float64 alone.
inline ScalarType stored_beside(const Tensor& tensor, const Tensor& other) {
  return other.scalar_type() == ScalarType::Double ? ScalarType::Double : tensor.scalar_type();
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

// Calls body(X{}, L{}, begin, end) on torch's threads over all work items, with the stored types of
// x and the logits.
template <class Body>
void for_work_items(const Tensor& x, const Tensor& logits, int64_t items, const Body& body) {
  if (x.numel() == 0) return;
  // About 20 microseconds of memory traffic: less is not worth waking a thread for.
  constexpr int64_t elements_per_task = 32768;
  const int64_t grain = std::max<int64_t>(1, elements_per_task * items / x.numel());
  with_stored_type(x, "x", [&](auto x_type) {
    with_stored_type(logits, "logits", [&](auto logits_type) {
      constexpr bool x_is_double = std::is_same_v<decltype(x_type), double>;
      constexpr bool logits_are_double = std::is_same_v<decltype(logits_type), double>;
      if constexpr (x_is_double == logits_are_double) {
        torch::stable::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
          body(x_type, logits_type, begin, end);
        });
      }
    });
  });
}

}  // namespace lesionkit
