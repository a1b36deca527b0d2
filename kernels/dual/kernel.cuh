// Dual attention: both weights from the raw features' logits, in one pass over memory.
//
// A block owns one sample and channel: M planes, `image_stride` = D * H * W numbers apart, with all
// of a column's images and all of a plane's cells. Weights need the planes' maxima first, so the
// spatial logits are read ahead of everything else, and then once more. The second time they come
// from the first-level cache, or the second: two blocks run on a multiprocessor at a time, 9 planes
// of 4096 cells are 74 KB (16-bit) or 147 KB a block, and what is read once passes that cache by.
// Registers cannot hold them beside a column of 9 images, nor can the shared memory of every
// device. No second kernel, no workspace, and device memory sees each tensor once.
#pragma once

#include "common/attention.cuh"
#include "common/plane.cuh"
#include "common/reduce.cuh"

namespace lesionkit::dual {

using namespace lesionkit::device;

constexpr int kLeastBlocks = 2;
// Threads of a block, by the numbers M * N of a column that each holds: the registers allow no more.
__host__ __device__ constexpr int most_threads(int numbers) {
  return numbers >= 72 ? 128 : numbers >= 28 ? 192 : 256;
}

// The first element of this block's plane of image 0; -1 beyond the last block.
__device__ __forceinline__ Index own_start(Index samples, Index images, Index channels,
                                           Index cells) {
  const Index block = block_number(), sample = block / channels;
  if (sample >= samples) return -1;
  return (sample * images * channels + block % channels) * cells;
}

__device__ __forceinline__ float dual_weight(float contextual, float spatial,
                                             float contextual_scale, float spatial_scale) {
  return power_of_two(contextual * contextual_scale + spatial * spatial_scale);
}

// The maximum of each of the block's planes in top[0 .. images), of shared memory; `partial` has
// room for 32 numbers an image. Ends with a barrier.
template <int N, class L>
__device__ __forceinline__ void plane_maxima(const L* spatial, Index image_stride, int images,
                                             const Division<N>& plane, float* partial, float* top) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  for (int m = 0; m < images; ++m) {
    float highest = negative_infinity();
    for_own_cells<4>(plane, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
      constexpr int K = decltype(lanes)::count;
      float s[K];
      unpack(load<K>(spatial + m * image_stride + cell), s);
#pragma unroll
      for (int i = 0; i < K; ++i) highest = maximum(highest, s[i]);
    });
    highest = reduce_warp(highest, Maximum{});
    if (lane == 0) partial[m * kWarp + warp] = highest;
  }
  __syncthreads();
  for (int m = warp; m < images; m += warps) {
    const float highest =
        reduce_warp(lane < warps ? partial[m * kWarp + lane] : negative_infinity(), Maximum{});
    if (lane == 0) top[m] = usable_maximum(highest);
  }
  __syncthreads();
}

template <int K, class L>
__device__ __forceinline__ ColumnMaximum<K> column_maximum(const L* contextual, Index image_stride,
                                                           int images) {
  ColumnMaximum<K> column;
  float c[K];
  unpack(load<K>(contextual), c);
  column.start(c);
#pragma unroll 4
  for (int m = 1; m < images; ++m) {
    unpack(load<K>(contextual + m * image_stride), c);
    column.meet(c);
  }
  column.finish();
  return column;
}

// K neighbouring columns of contextual logits and their maximum. M images are held in registers;
// M = 0: any number, and they are read again.
template <class L, int K, int M>
struct Columns {
  Pack<L, K> held[M > 0 ? M : 1];
  ColumnMaximum<K> maximum;

  __device__ __forceinline__ void meet(const L* contextual, Index image_stride, int images) {
    if constexpr (M == 0) {
      maximum = column_maximum<K>(contextual, image_stride, images);
    } else {
#pragma unroll
      for (int m = 0; m < M; ++m) held[m] = load_once<K>(contextual + m * image_stride);
      float c[K];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        unpack(held[m], c);
        m == 0 ? maximum.start(c) : maximum.meet(c);
      }
      maximum.finish();
    }
  }
  __device__ __forceinline__ void get(int m, const L* here, float (&c)[K]) const {
    if constexpr (M == 0) {
      unpack(load<K>(here), c);
    } else {
      unpack(held[m], c);
    }
  }
};

// Shared memory: 33 floats an image. N is 1 unless all planes begin alike on the vectors. `images` is
// M unless M is 0.
template <class X, class L, int N, int M>
__global__ void __launch_bounds__(most_threads(M * N), kLeastBlocks)
    forward(const X* x, const L* contextual, const L* spatial, X* y, Index samples, int images,
            Index channels, Index cells, float contextual_scale, float spatial_scale) {
  const Index start = own_start(samples, images, channels, cells);
  if (start < 0) return;
  const Index image_stride = channels * cells;
  const Division<N> plane(start, cells);
  float* partial = dynamic_shared<float>();
  float* top = partial + images * kWarp;
  plane_maxima(spatial + start, image_stride, images, plane, partial, top);

  for_own_cells<1>(plane, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    constexpr int held = K == N ? M : 0;  // unrolling for the few edges is not worth its code
    const Index first = start + cell;
    Columns<L, K, held> columns;
    columns.meet(contextual + first, image_stride, images);
#pragma unroll(held > 0 ? held : 2)
    for (int m = 0; m < (held > 0 ? held : images); ++m) {
      const Index here = first + m * image_stride;
      float c[K], s[K], value[K];
      columns.get(m, contextual + here, c);
      unpack(load<K>(spatial + here), s);
      unpack(load_once<K>(x + here), value);
#pragma unroll
      for (int i = 0; i < K; ++i) {
        value[i] *= dual_weight(c[i] - columns.maximum.top[i], s[i] - top[m], contextual_scale,
                                spatial_scale);
      }
      store(y + here, pack<X>(value));
    }
  });
}

// What the backward kernel reads, from the block's first plane on.
template <class X, class L>
struct Inputs {
  const X *grad, *x;
  const L *contextual, *spatial;
  float contextual_scale, spatial_scale;

  // Of K neighbouring cells of one image with contextual logits c: g becomes dx, p becomes g * y.
  template <bool again, int K>
  __device__ __forceinline__ void product(Index here, const float (&c)[K],
                                          const float (&column_top)[K], float top, float (&s)[K],
                                          float (&g)[K], float (&p)[K]) const {
    unpack(load<K>(spatial + here), s);
    unpack(again ? load<K>(grad + here) : load_once<K>(grad + here), g);
    unpack(again ? load<K>(x + here) : load_once<K>(x + here), p);
#pragma unroll
    for (int i = 0; i < K; ++i) {
      g[i] *= dual_weight(c[i] - column_top[i], s[i] - top, contextual_scale, spatial_scale);
      p[i] *= g[i];
    }
  }
};

// Shared memory: 66 floats an image. dspatial is written before its planes' sums are known, which
// only the tied maxima need; those are mended at the end.
template <class X, class L, int N, int M>
__global__ void __launch_bounds__(most_threads(M * N), kLeastBlocks)
    backward(const X* grad, const X* x, const L* contextual, const L* spatial, X* dx,
             L* dcontextual, L* dspatial, Index samples, int images, Index channels, Index cells,
             float contextual_scale, float spatial_scale, float contextual_inverse,
             float spatial_inverse) {
  const Index start = own_start(samples, images, channels, cells);
  if (start < 0) return;
  const Index image_stride = channels * cells;
  const Division<N> plane(start, cells);
  const Inputs<X, L> in{grad + start,    x + start,        contextual + start,
                        spatial + start, contextual_scale, spatial_scale};
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  float* sums = dynamic_shared<float>();
  float* counts = sums + images * kWarp;
  float* top = counts + images * kWarp;
  float* share = top + images;
  plane_maxima(in.spatial, image_stride, images, plane, sums, top);
  for (int k = lane; k < 2 * images; k += kWarp) sums[k * kWarp + warp] = 0;
  sync_warp();

  // All lanes of a warp come along, with or without cells, to add up their share of each plane.
  for_warp_cells(plane, [&](auto lanes, Index cell, bool has_cells) {
    constexpr int K = decltype(lanes)::count;
    constexpr int held = K == N ? M : 0;
    constexpr bool again = held == 0;
    Columns<L, K, held> columns = {};
    const auto& column_top = columns.maximum.top;
    float p_held[again ? 1 : held][K], sum[K] = {}, ties[K] = {}, c[K], s[K], g[K], p[K];
    if (has_cells) columns.meet(in.contextual + cell, image_stride, images);
#pragma unroll(again ? 1 : held)
    for (int m = 0; m < (again ? images : held); ++m) {
      float plane_sum = 0, plane_ties = 0;
      if (has_cells) {
        const Index here = cell + m * image_stride;
        columns.get(m, in.contextual + here, c);
        in.template product<again>(here, c, column_top, top[m], s, g, p);
        store(dx + start + here, pack<X>(g));
#pragma unroll
        for (int i = 0; i < K; ++i) {
          if (!again) p_held[again ? 0 : m][i] = p[i];
          sum[i] += p[i];
          ties[i] += c[i] == column_top[i] ? 1.0f : 0.0f;
          plane_sum += p[i];
          plane_ties += s[i] == top[m] ? 1.0f : 0.0f;
          p[i] *= spatial_inverse;
        }
        store(dspatial + start + here, pack<L>(p));
      }
      plane_sum = reduce_warp(plane_sum, Sum{});
      plane_ties = reduce_warp(plane_ties, Sum{});
      if (lane == 0) {
        sums[m * kWarp + warp] += plane_sum;
        counts[m * kWarp + warp] += plane_ties;
      }
    }
    if (!has_cells) return;
#pragma unroll
    for (int i = 0; i < K; ++i) ties[i] = reciprocal(ties[i]);
#pragma unroll(again ? 1 : held)
    for (int m = 0; m < (again ? images : held); ++m) {
      const Index here = cell + m * image_stride;
      columns.get(m, in.contextual + here, c);
      if (again) in.template product<again>(here, c, column_top, top[m], s, g, p);
#pragma unroll
      for (int i = 0; i < K; ++i) {
        const float product = again ? p[i] : p_held[again ? 0 : m][i];
        p[i] = balanced(product, c[i] == column_top[i], ties[i], sum[i]) * contextual_inverse;
      }
      store(dcontextual + start + here, pack<L>(p));
    }
  });

  __syncthreads();
  for (int m = warp; m < images; m += warps) {
    const float sum = reduce_warp(lane < warps ? sums[m * kWarp + lane] : 0.0f, Sum{});
    const float count = reduce_warp(lane < warps ? counts[m * kWarp + lane] : 0.0f, Sum{});
    sync_warp();
    if (lane == 0) {
      sums[m * kWarp] = sum;
      share[m] = 1 / count;
    }
  }
  __syncthreads();

  for_own_cells<1>(plane, threadIdx.x, blockDim.x, [&](auto lanes, Index cell) {
    constexpr int K = decltype(lanes)::count;
    for (int m = 0; m < images; ++m) {
      const Index here = cell + m * image_stride;
      const float sum = sums[m * kWarp];
      float c[K], s[K], g[K], p[K];
      unpack(load<K>(in.spatial + here), s);
      bool unfinished = sum - sum != 0;  // a sum that is not finite reaches the whole plane
#pragma unroll
      for (int i = 0; i < K; ++i) unfinished |= s[i] == top[m];
      if (!unfinished) continue;
      const auto column = column_maximum<K>(in.contextual + cell, image_stride, images);
      unpack(load<K>(in.contextual + here), c);
      in.template product<true>(here, c, column.top, top[m], s, g, p);
#pragma unroll
      for (int i = 0; i < K; ++i) {
        p[i] = balanced(p[i], s[i] == top[m], share[m], sum) * spatial_inverse;
      }
      store(dspatial + start + here, pack<L>(p));
    }
  });
}

}  // namespace lesionkit::dual
