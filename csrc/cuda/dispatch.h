// From the run-time types and addresses of the C interface to template arguments.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/device.cuh"
#include "cuda/grid.h"
#include "cuda/launch.h"

namespace lesionkit::cuda {

using device::BFloat16;
using device::Half;

// Calls body(T{}) for the stored type; an error for one that the kernels do not take.
template <class Body>
int with_type(int type, const Body& body) {
  switch (type) {
    case LESIONKIT_FLOAT32:
      return body(float{});
    case LESIONKIT_FLOAT16:
      return body(Half{});
    case LESIONKIT_BFLOAT16:
      return body(BFloat16{});
    default:
      return kInvalidValue;
  }
}

// How many neighbours a thread takes: a 16-byte vector of the wider type.
template <class X, class L>
constexpr int kLanes = device::kVectorBytes / (sizeof(X) > sizeof(L) ? sizeof(X) : sizeof(L));

// Whether `lanes` elements at a time can be read from and written to all pointers of one type.
template <class T, class... Pointers>
bool aligned(int lanes, Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % (lanes * sizeof(T)) == 0) && ...);
}

template <int Value>
using Constant = std::integral_constant<int, Value>;

// Calls body(Constant<M>{}) for a number of images that kernels are unrolled for, if there are any
// for these types, else body(Constant<0>{}).
template <bool unrolled, class Body>
int with_images(int64_t images, const Body& body) {
  if constexpr (unrolled) {
    switch (images) {
      case 3:
        return body(Constant<3>{});
      case 5:
        return body(Constant<5>{});
      case 7:
        return body(Constant<7>{});
      case 9:
        return body(Constant<9>{});
    }
  }
  return body(Constant<0>{});
}

}  // namespace lesionkit::cuda
