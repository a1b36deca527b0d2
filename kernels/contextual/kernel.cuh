// Contextual attention: the maximum runs over the M images of a column.
//
// Images lie `columns` = D * H * W numbers apart. A thread owns N neighbouring columns, a whole
// 16-byte vector of the wider type, in all images: M streams of full cache lines per warp, no
// exchange between threads. The kernels for a given M hold the column in registers and touch
// memory once; those for any M read it again, from the caches.
#pragma once

#include "common/attention.cuh"

namespace lesionkit::contextual {

using namespace lesionkit::device;

constexpr int kMostThreads = 128;
// Of a backward whose threads hold as many gradients, M * N: the registers allow no larger blocks.
__host__ __device__ constexpr int most_threads(int gradients) {
  return gradients >= 72 ? 64 : kMostThreads;
}

// Blocks that the registers of a multiprocessor must hold, for as many gradients. Left alone, the
// compiler issues all 3 M loads of the largest backward at once, and keeps so few threads resident
// that their stores wait.
__host__ __device__ constexpr int least_blocks(int gradients) {
  if (gradients >= 72) return 4;
  return gradients >= 56 ? 3 : gradients >= 28 ? 4 : gradients >= 20 ? 5 : 8;
}

// The first of this thread's columns; a multiple of N.
template <int N>
__device__ __forceinline__ Index own_column() {
  return (Index{blockIdx.x} * blockDim.x + threadIdx.x) * N;
}

// The sample: the grid's height and depth together count them.
__device__ __forceinline__ Index own_sample() {
  return Index{blockIdx.z} * gridDim.y + blockIdx.y;
}

// columns is a multiple of N, and so aligned is every tensor.
template <class X, class L, int N, int M>
__global__ void __launch_bounds__(kMostThreads)
    forward(const X* x, const L* logits, X* y, Index samples, Index columns, float scale) {
  const Index column = own_column<N>(), sample = own_sample();
  if (column >= columns || sample >= samples) return;
  const Index start = sample * M * columns + column;
  Pack<L, N> c_read[M];
  Pack<X, N> x_read[M];
#pragma unroll
  for (int m = 0; m < M; ++m) c_read[m] = load_once<N>(logits + start + m * columns);
#pragma unroll
  for (int m = 0; m < M; ++m) x_read[m] = load_once<N>(x + start + m * columns);
  ColumnMaximum<N> column_maximum;
  float c[N], value[N];
#pragma unroll
  for (int m = 0; m < M; ++m) {
    unpack(c_read[m], c);
    m == 0 ? column_maximum.start(c) : column_maximum.meet(c);
  }
  column_maximum.finish();
#pragma unroll
  for (int m = 0; m < M; ++m) {
    unpack(c_read[m], c);
    unpack(x_read[m], value);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= weight_of(c[i], column_maximum.top[i], scale);
    store(y + start + m * columns, pack<X>(value));
  }
}

template <class X, class L, int N>
__global__ void __launch_bounds__(kMostThreads)
    forward_any(const X* x, const L* logits, X* y, Index samples, Index images, Index columns,
                float scale) {
  const Index column = own_column<N>(), sample = own_sample();
  if (column >= columns || sample >= samples) return;
  const Index start = sample * images * columns + column;
  ColumnMaximum<N> column_maximum;
  float c[N], value[N];
  unpack(load<N>(logits + start), c);
  column_maximum.start(c);
#pragma unroll 4
  for (Index m = 1; m < images; ++m) {
    unpack(load<N>(logits + start + m * columns), c);
    column_maximum.meet(c);
  }
  column_maximum.finish();
#pragma unroll 4
  for (Index m = 0; m < images; ++m) {
    unpack(load<N>(logits + start + m * columns), c);
    unpack(load_once<N>(x + start + m * columns), value);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= weight_of(c[i], column_maximum.top[i], scale);
    store(y + start + m * columns, pack<X>(value));
  }
}

template <class X, class L, int N, int M>
__global__ void __launch_bounds__(most_threads(M * N), least_blocks(M * N))
    backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits, Index samples,
             Index columns, float scale, float inverse_temperature) {
  const Index column = own_column<N>(), sample = own_sample();
  if (column >= columns || sample >= samples) return;
  const Index start = sample * M * columns + column;
  Pack<L, N> c_read[M];
#pragma unroll
  for (int m = 0; m < M; ++m) c_read[m] = load_once<N>(logits + start + m * columns);
  ColumnMaximum<N> column_maximum;
  float c[N], g[N], value[N], h[M][N], sum[N], ties[N];
#pragma unroll
  for (int m = 0; m < M; ++m) {
    unpack(c_read[m], c);
    m == 0 ? column_maximum.start(c) : column_maximum.meet(c);
  }
  column_maximum.finish();
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = ties[i] = 0;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    unpack(c_read[m], c);
    unpack(load_once<N>(grad + start + m * columns), g);
    unpack(load_once<N>(x + start + m * columns), value);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      g[i] *= weight_of(c[i], column_maximum.top[i], scale);
      h[m][i] = g[i] * value[i] * inverse_temperature;
      sum[i] += h[m][i];
      ties[i] += c[i] == column_maximum.top[i] ? 1.0f : 0.0f;
    }
    store(dx + start + m * columns, pack<X>(g));
  }
#pragma unroll
  for (int i = 0; i < N; ++i) ties[i] = reciprocal(ties[i]);
#pragma unroll
  for (int m = 0; m < M; ++m) {
    unpack(c_read[m], c);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      h[m][i] = balanced(h[m][i], c[i] == column_maximum.top[i], ties[i], sum[i]);
    }
    store(dlogits + start + m * columns, pack<L>(h[m]));
  }
}

template <class X, class L, int N>
__global__ void __launch_bounds__(kMostThreads, least_blocks(2 * N))
    backward_any(const X* grad, const X* x, const L* logits, X* dx, L* dlogits, Index samples,
                 Index images, Index columns, float scale, float inverse_temperature) {
  const Index column = own_column<N>(), sample = own_sample();
  if (column >= columns || sample >= samples) return;
  const Index start = sample * images * columns + column;
  ColumnMaximum<N> column_maximum;
  float c[N], g[N], value[N], sum[N], ties[N];
  unpack(load<N>(logits + start), c);
  column_maximum.start(c);
#pragma unroll 4
  for (Index m = 1; m < images; ++m) {
    unpack(load<N>(logits + start + m * columns), c);
    column_maximum.meet(c);
  }
  column_maximum.finish();
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = ties[i] = 0;
#pragma unroll 2
  for (Index m = 0; m < images; ++m) {
    unpack(load<N>(logits + start + m * columns), c);
    unpack(load<N>(grad + start + m * columns), g);
    unpack(load<N>(x + start + m * columns), value);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      g[i] *= weight_of(c[i], column_maximum.top[i], scale);
      sum[i] += g[i] * value[i] * inverse_temperature;
      ties[i] += c[i] == column_maximum.top[i] ? 1.0f : 0.0f;
    }
    store(dx + start + m * columns, pack<X>(g));
  }
#pragma unroll
  for (int i = 0; i < N; ++i) ties[i] = reciprocal(ties[i]);
#pragma unroll 2
  for (Index m = 0; m < images; ++m) {
    unpack(load<N>(logits + start + m * columns), c);
    unpack(load<N>(grad + start + m * columns), g);
    unpack(load<N>(x + start + m * columns), value);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float weight = weight_of(c[i], column_maximum.top[i], scale);
      const float h = g[i] * weight * value[i] * inverse_temperature;
      value[i] = balanced(h, c[i] == column_maximum.top[i], ties[i], sum[i]);
    }
    store(dlogits + start + m * columns, pack<L>(value));
  }
}

}  // namespace lesionkit::contextual
