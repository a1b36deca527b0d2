// Spatial attention: the maximum runs over one H x W plane.
//
// A plane that fits is held in registers, spread over a warp or a block, and touches memory once.
// Larger planes are read again, from the caches.
#pragma once

#include "common/attention.cuh"
#include "common/plane.cuh"
#include "common/reduce.cuh"

namespace lesionkit::spatial {

using namespace lesionkit::device;

constexpr int kMostThreads = 512;
constexpr int kWarpsPerBlock = 4;  // where each warp has a plane of its own

__host__ __device__ constexpr int most_threads(bool warp) {
  return warp ? kWarpsPerBlock * kWarp : kMostThreads;
}

template <bool warp>
__device__ __forceinline__ Index own_plane() {
  return warp ? block_number() * kWarpsPerBlock + threadIdx.x / kWarp : block_number();
}

// Reductions of a plane that a warp or a block holds, in every thread.
template <bool warp, int Count, class Combine>
__device__ __forceinline__ void reduce_plane(float (&value)[Count], float* partial, float identity,
                                             Combine combine) {
  if constexpr (warp) {
#pragma unroll
    for (int k = 0; k < Count; ++k) value[k] = reduce_warp(value[k], combine);
  } else {
    reduce_block(value, partial, identity, combine);
  }
}

// A thread's cells of a plane: V vectors, strided by the plane's threads, and perhaps one edge cell.
template <int N, int V, bool edges, bool warp>
struct Share {
  Index plane;
  Index start;    // of the plane
  int vector;     // the first
  int threads;    // from one vector to the next
  int vectors;    // of the plane
  int head;       // cells before the plane's first vector
  bool has_edge;
  Index edge;     // element

  __device__ __forceinline__ Share(int cells) {
    plane = own_plane<warp>();
    start = plane * cells;
    threads = warp ? kWarp : blockDim.x;
    vector = threadIdx.x % threads;
    vectors = cells / N;
    head = 0;
    has_edge = false;
    edge = start;
    if constexpr (edges) {
      const Division<N> at(start, cells);
      vectors = static_cast<int>(at.vectors);
      head = static_cast<int>(at.head);
      has_edge = vector < at.edges;
      if (has_edge) edge += at.edge_cell(vector);
    }
  }
  __device__ __forceinline__ bool has(int v) const { return vector + v * threads < vectors; }
  __device__ __forceinline__ Index element(int v) const {
    return start + head + (vector + v * threads) * N;
  }
};

// Without edges every plane is whole vectors.
template <class T, int N, int V, bool edges, bool warp>
__global__ void __launch_bounds__(most_threads(warp))
    forward(const T* x, const T* logits, T* y, Index planes, int cells, float scale) {
  __shared__ float partial[kWarp];
  const Share<N, V, edges, warp> own(cells);
  if (own.plane >= planes) return;
  Pack<T, N> c_read[V] = {}, x_read[V] = {};
  float c_edge = 0, x_edge = 0, c[N], value[N];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (own.has(v)) c_read[v] = load_once<N>(logits + own.element(v));
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (own.has(v)) x_read[v] = load_once<N>(x + own.element(v));
  }
  if (edges && own.has_edge) {
    c_edge = read(logits + own.edge);
    x_edge = read(x + own.edge);
  }

  float top[1] = {negative_infinity()};
#pragma unroll
  for (int v = 0; v < V; ++v) {
    unpack(c_read[v], c);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (own.has(v)) top[0] = maximum(top[0], c[i]);
    }
  }
  if (edges && own.has_edge) top[0] = maximum(top[0], c_edge);
  reduce_plane<warp>(top, partial, negative_infinity(), Maximum{});
  top[0] = usable_maximum(top[0]);

#pragma unroll
  for (int v = 0; v < V; ++v) {
    unpack(c_read[v], c);
    unpack(x_read[v], value);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= weight_of(c[i], top[0], scale);
    if (own.has(v)) store(y + own.element(v), pack<T>(value));
  }
  if (edges && own.has_edge) write(y + own.edge, x_edge * weight_of(c_edge, top[0], scale));
}

template <class T, int N, int V, bool edges, bool warp>
__global__ void __launch_bounds__(most_threads(warp))
    backward(const T* grad, const T* x, const T* logits, T* dx, T* dlogits, Index planes, int cells,
             float scale, float inverse_temperature) {
  __shared__ float partial_top[kWarp], partial_sums[2 * kWarp];
  const Share<N, V, edges, warp> own(cells);
  if (own.plane >= planes) return;
  Pack<T, N> c_read[V] = {}, g_read[V] = {}, x_read[V] = {};
  float c_edge = 0, g_edge = 0, x_edge = 0, h_edge = 0, c[N], g[N], value[N], h[V][N];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (own.has(v)) c_read[v] = load_once<N>(logits + own.element(v));
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (own.has(v)) g_read[v] = load_once<N>(grad + own.element(v));
    if (V < 8 && own.has(v)) x_read[v] = load_once<N>(x + own.element(v));
  }
  if (edges && own.has_edge) {
    c_edge = read(logits + own.edge);
    g_edge = read(grad + own.edge);
    x_edge = read(x + own.edge);
  }

  float top[1] = {negative_infinity()};
#pragma unroll
  for (int v = 0; v < V; ++v) {
    unpack(c_read[v], c);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (own.has(v)) top[0] = maximum(top[0], c[i]);
    }
  }
  if (edges && own.has_edge) top[0] = maximum(top[0], c_edge);
  reduce_plane<warp>(top, partial_top, negative_infinity(), Maximum{});
  top[0] = usable_maximum(top[0]);

  float sum_and_ties[2] = {0, 0};
#pragma unroll
  for (int v = 0; v < V; ++v) {
    // 8 vectors of three tensors at once are more than the registers hold.
    if (V >= 8 && own.has(v)) x_read[v] = load_once<N>(x + own.element(v));
    unpack(c_read[v], c);
    unpack(g_read[v], g);
    unpack(x_read[v], value);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      g[i] *= weight_of(c[i], top[0], scale);
      h[v][i] = g[i] * value[i] * inverse_temperature;
      if (own.has(v)) {
        sum_and_ties[0] += h[v][i];
        sum_and_ties[1] += c[i] == top[0] ? 1.0f : 0.0f;
      }
    }
    if (own.has(v)) store(dx + own.element(v), pack<T>(g));
  }
  if (edges && own.has_edge) {
    g_edge *= weight_of(c_edge, top[0], scale);
    h_edge = g_edge * x_edge * inverse_temperature;
    sum_and_ties[0] += h_edge;
    sum_and_ties[1] += c_edge == top[0] ? 1.0f : 0.0f;
    write(dx + own.edge, g_edge);
  }
  reduce_plane<warp>(sum_and_ties, partial_sums, 0.0f, Sum{});

  const float sum = sum_and_ties[0], share = 1 / sum_and_ties[1];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    unpack(c_read[v], c);
#pragma unroll
    for (int i = 0; i < N; ++i) h[v][i] = balanced(h[v][i], c[i] == top[0], share, sum);
    if (own.has(v)) store(dlogits + own.element(v), pack<T>(h[v]));
  }
  if (edges && own.has_edge) {
    write(dlogits + own.edge, balanced(h_edge, c_edge == top[0], share, sum));
  }
}

// The maximum of the block's plane, in every thread.
template <int N, class L>
__device__ __forceinline__ float plane_maximum(const L* logits, const Division<N>& division,
                                               float* partial) {
  float top[1] = {negative_infinity()};
  for_own_cells<4>(division, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    float c[K];
    unpack(load<K>(logits + cell), c);
#pragma unroll
    for (int i = 0; i < K; ++i) top[0] = maximum(top[0], c[i]);
  });
  reduce_block(top, partial, negative_infinity(), Maximum{});
  return usable_maximum(top[0]);
}

template <class X, class L, int N>
__global__ void __launch_bounds__(kMostThreads)
    forward_any(const X* x, const L* logits, X* y, Index planes, Index cells, float scale) {
  __shared__ float partial[kWarp];
  const Index plane = block_number();
  if (plane >= planes) return;
  const Index start = plane * cells;
  const Division<N> division(start, cells);
  const float top = plane_maximum(logits + start, division, partial);
  for_own_cells<4>(division, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    float c[K], value[K];
    unpack(load<K>(logits + start + cell), c);
    unpack(load_once<K>(x + start + cell), value);
#pragma unroll
    for (int i = 0; i < K; ++i) value[i] *= weight_of(c[i], top, scale);
    store(y + start + cell, pack<X>(value));
  });
}

template <class X, class L, int N>
__global__ void __launch_bounds__(kMostThreads)
    backward_any(const X* grad, const X* x, const L* logits, X* dx, L* dlogits, Index planes,
                 Index cells, float scale, float inverse_temperature) {
  __shared__ float partial_top[kWarp], partial_sums[2 * kWarp];
  const Index plane = block_number();
  if (plane >= planes) return;
  const Index start = plane * cells;
  const Division<N> division(start, cells);
  const float top = plane_maximum(logits + start, division, partial_top);
  float sum_and_ties[2] = {0, 0};
  for_own_cells<2>(division, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    float c[K], g[K], value[K];
    unpack(load<K>(logits + start + cell), c);
    unpack(load<K>(grad + start + cell), g);
    unpack(load<K>(x + start + cell), value);
#pragma unroll
    for (int i = 0; i < K; ++i) {
      g[i] *= weight_of(c[i], top, scale);
      sum_and_ties[0] += g[i] * value[i] * inverse_temperature;
      sum_and_ties[1] += c[i] == top ? 1.0f : 0.0f;
    }
    store(dx + start + cell, pack<X>(g));
  });
  reduce_block(sum_and_ties, partial_sums, 0.0f, Sum{});

  const float sum = sum_and_ties[0], share = 1 / sum_and_ties[1];
  for_own_cells<2>(division, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    float c[K], g[K], value[K];
    unpack(load<K>(logits + start + cell), c);
    unpack(load<K>(grad + start + cell), g);
    unpack(load<K>(x + start + cell), value);
#pragma unroll
    for (int i = 0; i < K; ++i) {
      const float h = g[i] * weight_of(c[i], top, scale) * value[i] * inverse_temperature;
      value[i] = balanced(h, c[i] == top, share, sum);
    }
    store(dlogits + start + cell, pack<L>(value));
  });
}

}  // namespace lesionkit::spatial
