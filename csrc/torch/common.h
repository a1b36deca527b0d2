// What the ops of every device share, on the libtorch stable ABI.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace lesionkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Tensor as_type(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}
inline Tensor as_type(const Tensor& tensor, const Tensor& like) {
  return as_type(tensor, like.scalar_type());
}
inline Tensor contiguous_as(const Tensor& tensor, ScalarType type) {
  const Tensor typed = as_type(tensor, type);
  // Asking is free; the call would pass the dispatcher.
  return typed.is_contiguous() ? typed : torch::stable::contiguous(typed);
}

}  // namespace lesionkit
