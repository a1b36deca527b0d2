// What the attention ops for CPU tensors share: the choice of types, and threads.
#pragma once

#include <type_traits>

#include "cpu/attention.h"
#include "torch/attention.h"
#include "torch/cpu/common.h"

namespace lesionkit {

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
  cpu::best_isa();  // what it may throw must not come from another thread
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
