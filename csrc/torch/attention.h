// Checks and choices of the attention ops, the same on every device.
#pragma once

#include <cmath>
#include <tuple>

#include "torch/common.h"

namespace lesionkit {

inline void check_like_x(const Tensor& x, const Tensor& other, const char* name) {
  STD_TORCH_CHECK(x.dim() == 5, "x must be [B, M, D, H, W], got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(other.dim() == 5, name, " must have x's 5 dimensions, got ", other.dim());
  for (int64_t axis = 0; axis < 5; ++axis) {
    STD_TORCH_CHECK(other.size(axis) == x.size(axis), name, " must have x's shape, but is ",
                    other.size(axis), " instead of ", x.size(axis), " along axis ", axis);
  }
  STD_TORCH_CHECK(other.device() == x.device(), name, " must be on x's device");
}

inline void check_temperature(double temperature, const char* name) {
  STD_TORCH_CHECK(std::isfinite(temperature) && temperature > 0, name,
                  " must be finite and above 0, got ", temperature);
}

inline void check_single(const Tensor& x, const Tensor& logits, double temperature) {
  check_like_x(x, logits, "logits");
  check_temperature(temperature, "temperature");
}

inline void check_dual(const Tensor& x, const Tensor& contextual, const Tensor& spatial,
                       double contextual_temperature, double spatial_temperature) {
  check_like_x(x, contextual, "contextual_logits");
  check_like_x(x, spatial, "spatial_logits");
  check_temperature(contextual_temperature, "contextual_temperature");
  check_temperature(spatial_temperature, "spatial_temperature");
}

// Both sets of logits are read in one type: their own if they agree, else the wider arithmetic one.
inline ScalarType common_logits_type(const Tensor& x, const Tensor& contextual,
                                     const Tensor& spatial) {
  for (const Tensor* tensor : {&x, &contextual, &spatial}) {
    if (tensor->scalar_type() == ScalarType::Double) return ScalarType::Double;
  }
  return contextual.scalar_type() == spatial.scalar_type() ? contextual.scalar_type()
                                                           : ScalarType::Float;
}

}  // namespace lesionkit
