// Reductions over the threads of a warp or a block, in an order that never changes.
#pragma once

#include "common/device.cuh"

namespace lesionkit::device {

struct Maximum {
  __device__ __forceinline__ float operator()(float a, float b) const { return maximum(a, b); }
};
struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};

// Of all 32 lanes, in every lane.
template <class Combine>
__device__ __forceinline__ float reduce_warp(float value, Combine combine) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

// Of Count values of every thread of the block, each for itself, in every thread. The block is whole
// warps. `partial` is Count * 32 floats of shared memory that nothing else uses until the next
// barrier but one.
template <int Count, class Combine>
__device__ __forceinline__ void reduce_block(float (&value)[Count], float* partial, float identity,
                                             Combine combine) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warps = blockDim.x / kWarp;
#pragma unroll
  for (int k = 0; k < Count; ++k) {
    value[k] = reduce_warp(value[k], combine);
    if (lane == 0) partial[k * kWarp + warp] = value[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < Count; ++k) {
    value[k] = reduce_warp(lane < warps ? partial[k * kWarp + lane] : identity, combine);
  }
}

}  // namespace lesionkit::device
