// What the attention ops for CPU tensors share: checks, the choice of types, and threads.
#pragma once

#include <cmath>
#include <tuple>
#include <type_traits>

#include "common.h"
#include "cpu/attention.h"

namespace lesionkit {

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

// The type that a tensor is read in beside another: its own, since the kernels convert while they
// load, except that float64 is combined with float64 alone.
inline ScalarType stored_beside(const Tensor& tensor, const Tensor& other) {
  return other.scalar_type() == ScalarType::Double ? ScalarType::Double : tensor.scalar_type();
}

// Calls body(X{}, L{}, begin, end) on torch's threads over all work items, with the stored types of
// x and the logits.
template <class Body>
void for_work_items(const Tensor& x, const Tensor& logits, int64_t items, const Body& body) {
  if (x.numel() == 0) return;
  const int64_t grain = 1 + kElementsPerTask * items / x.numel();
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
