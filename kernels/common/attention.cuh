// What the attention kernels share: the weight of a logit, and the maximum and ties of a column.
#pragma once

#include "common/device.cuh"

namespace lesionkit::device {

// A maximum that gives the whole group NaN weights wherever softmax would: NaN or an infinity.
__device__ __forceinline__ float usable_maximum(float top) {
  const float difference = top - top;
  return difference == 0 ? top : difference;
}

// exp((logit - top) / T) for scale = log2(e) / T.
__device__ __forceinline__ float weight_of(float logit, float top, float scale) {
  return power_of_two((logit - top) * scale);
}

// The gradient that tied maxima give up: the group's sum, shared evenly. A sum that is not finite
// reaches the whole group, hence the product with 0 elsewhere.
__device__ __forceinline__ float balanced(float h, bool tied, float share, float sum) {
  return h - (tied ? share : 0.0f) * sum;
}

// Meets the logits of a column of images, N columns side by side.
template <int N>
struct ColumnMaximum {
  float top[N];

  __device__ __forceinline__ void start(const float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) top[i] = c[i];
  }
  __device__ __forceinline__ void meet(const float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) top[i] = maximum(top[i], c[i]);
  }
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int i = 0; i < N; ++i) top[i] = usable_maximum(top[i]);
  }
};

}  // namespace lesionkit::device
