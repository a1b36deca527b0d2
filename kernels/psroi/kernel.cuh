// Position-sensitive RoI pooling.
//
// features [B, C*G*G, H, W], rois [K, 5], pooled [K, C*G*G]: output o of a roi is the mean of plane
// o of the roi's sample over the cells of bin o % (G*G).
#pragma once

#include "common/device.cuh"
#include "psroi/bins.h"

namespace lesionkit::psroi {

using device::Index;
using device::kWarp;

// Most dividends have 32 bits, where a division takes a third of the time.
__device__ __forceinline__ Index quotient(Index number, int by) {
  return number >> 32 ? number / by : static_cast<unsigned>(number) / static_cast<unsigned>(by);
}

__device__ __forceinline__ float area(Cells rows, Cells columns) {
  return static_cast<float>(rows.end - rows.begin) *
         static_cast<float>(columns.end - columns.begin);
}

// Two rows of four cells at a time: a bin of a lesion fits, so all of its loads are in flight at once.
template <class Stored>
__device__ __forceinline__ float sum_of_cells(const Stored* map, int width, Cells rows,
                                              Cells columns) {
  float sum = 0;
  for (int y = rows.begin; y < rows.end; y += 2) {
    const Stored* row = map + static_cast<Index>(y) * width;
    const bool has_second = y + 1 < rows.end;
    for (int x = columns.begin; x < columns.end; x += 4) {
      float first[4], second[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool inside = x + e < columns.end;
        first[e] = inside ? device::read(row + x + e) : 0;
        second[e] = inside && has_second ? device::read(row + width + x + e) : 0;
      }
      sum += ((first[0] + first[1]) + (first[2] + first[3])) +
             ((second[0] + second[1]) + (second[2] + second[3]));
    }
  }
  return sum;
}

constexpr int kForwardThreads = 256;

// A block pools kForwardThreads * per_thread neighbouring outputs of one roi: it stores whole
// sectors, and blocks of neighbouring numbers read the same planes for other rois.
// Grid: x rois, y chunks of outputs; both may be smaller.
template <class Stored, class Real>
__global__ void __launch_bounds__(kForwardThreads)
    forward(const Stored* __restrict__ features, const Real* __restrict__ rois,
            Stored* __restrict__ pooled, Index num_rois, Index batch, Index outputs, int bins,
            int height, int width, Real scale, int convention_number, int per_thread) {
  const Convention convention = static_cast<Convention>(convention_number);
  const Index map_cells = static_cast<Index>(height) * width;
  const int chunk = kForwardThreads * per_thread;
  const int bins_of_map = bins * bins;
  for (Index k = blockIdx.x; k < num_rois; k += gridDim.x) {
    const Real* roi = rois + 5 * k;
    const Index sample = sample_of(roi[0], batch);
    const Span<Real> across = span_of(roi[1], roi[3], scale, bins, convention);
    const Span<Real> down = span_of(roi[2], roi[4], scale, bins, convention);
    const bool usable = sample >= 0 && across.usable && down.usable;
    for (Index begin = static_cast<Index>(blockIdx.y) * chunk; begin < outputs;
         begin += static_cast<Index>(gridDim.y) * chunk) {
      const int first_bin = static_cast<int>(begin - quotient(begin, bins_of_map) * bins_of_map);
      for (int offset = threadIdx.x; offset < chunk && begin + offset < outputs;
           offset += kForwardThreads) {
        float mean = 0;
        if (usable) {
          const unsigned bin = static_cast<unsigned>(first_bin + offset) % bins_of_map;
          const Cells rows = cells_of(down, static_cast<int>(bin / bins), height, convention);
          const Cells columns = cells_of(across, static_cast<int>(bin % bins), width, convention);
          if (rows.begin < rows.end && columns.begin < columns.end) {
            const Stored* map = features + (sample * outputs + begin + offset) * map_cells;
            mean = sum_of_cells(map, width, rows, columns) / area(rows, columns);
          }
        }
        device::write(pooled + k * outputs + begin + offset, mean);
      }
    }
  }
}

constexpr int kBackwardWarps = 4;
constexpr int kBackwardThreads = kBackwardWarps * kWarp;
constexpr int kStrip = 64;               // cells of a plane that a warp owns
constexpr int kStripStride = kStrip + 1;  // odd: planes begin in different banks

// A warp writes the strips of its 32 planes, or fewer, N cells a lane at a time; `plane` is the
// number of the lane's own.
template <int N, class Stored>
__device__ __forceinline__ void store_strips(const float* sums, Stored* strips, Index plane,
                                             Index map_cells, Index planes, int cells) {
  const int lane = threadIdx.x % kWarp;
  constexpr int kLanes = kStrip / N < kWarp ? kStrip / N : kWarp;  // for a plane
#pragma unroll 4
  for (int first = 0; first < kWarp && first < planes; first += kWarp / kLanes) {
    const int p = first + lane / kLanes;
    Stored* target = strips + device::shuffle(plane, p) * map_cells;
#pragma unroll
    for (int step = 0; step < kStrip; step += kLanes * N) {
      const int c = step + lane % kLanes * N;
      if (p >= planes || c >= cells) continue;
      float values[N];
#pragma unroll
      for (int e = 0; e < N; ++e) values[e] = sums[p * kStripStride + c + e];
      device::store(target + c, device::pack<Stored>(values));
    }
  }
}

// A warp owns a strip of kStrip cells in each of 32 planes whose bins share their rows: no other
// thread adds to them. Its lanes walk the rois in their order, each for its own plane, and the sums
// are stored once, zeros included. 32 planes are 32 neighbours of the C*G pairs (t, j).
// Grid: x strips / kBackwardWarps; y, which may be smaller, ceil(C*G / 32) * G; z samples, likewise.
template <class Stored, class Real>
__global__ void __launch_bounds__(kBackwardThreads)
    backward(const Stored* __restrict__ grad, const Real* __restrict__ rois,
             Stored* __restrict__ grad_features, Index num_rois, Index batch, Index channels,
             int bins, int height, int width, Real scale, int convention_number) {
  __shared__ float sums[kBackwardWarps][kWarp * kStripStride];
  __shared__ Real start[kBackwardThreads], bin[kBackwardThreads];  // of the rois' columns
  __shared__ Cells rows_of[kBackwardThreads];                      // of their bins in row i

  const Convention convention = static_cast<Convention>(convention_number);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const Index map_cells = static_cast<Index>(height) * width;
  const Index pairs = channels * bins, outputs = pairs * bins;
  const Index first = (static_cast<Index>(blockIdx.x) * kBackwardWarps + warp) * kStrip;
  const int cells = first >= map_cells             ? 0
                    : map_cells - first < kStrip ? static_cast<int>(map_cells - first)
                                                 : kStrip;
  const int first_row = static_cast<int>(quotient(first, width));
  const int end_row = static_cast<int>(quotient(first + cells - 1, width)) + 1;
  float* own = sums[warp] + lane * kStripStride;
  // The widest store that every strip's beginning is aligned to.
  const unsigned long long aligned =
      reinterpret_cast<unsigned long long>(grad_features) | map_cells * sizeof(Stored);

  const Index tasks = (pairs + kWarp - 1) / kWarp * bins;
  for (Index sample = blockIdx.z; sample < batch; sample += gridDim.z) {
    for (Index task = blockIdx.y; task < tasks; task += gridDim.y) {
      const Index group = quotient(task, bins);
      const int i = static_cast<int>(task - group * bins);
      const Index pair = group * kWarp + lane;
      const bool has_plane = pair < pairs;
      const Index t = quotient(pair, bins);
      const int j = static_cast<int>(pair - t * bins);
      const Index plane = (t * bins + i) * bins + j;

      for (int c = 0; c < kStripStride; ++c) own[c] = 0;
      for (Index base = 0; base < num_rois; base += kBackwardThreads) {
        __syncthreads();  // all warps are done with the last rois
        const Index k = base + threadIdx.x;
        Cells rows{0, 0};
        if (k < num_rois) {
          const Real* roi = rois + 5 * k;
          const Span<Real> across = span_of(roi[1], roi[3], scale, bins, convention);
          const Span<Real> down = span_of(roi[2], roi[4], scale, bins, convention);
          if (sample_of(roi[0], batch) == sample && across.usable && down.usable) {
            rows = cells_of(down, i, height, convention);
          }
          start[threadIdx.x] = across.start;
          bin[threadIdx.x] = across.bin;
        }
        rows_of[threadIdx.x] = rows;
        __syncthreads();

        for (int part = 0; part < kBackwardThreads && cells > 0; part += kWarp) {
          const Cells tested = rows_of[part + lane];
          unsigned left = device::ballot(tested.begin < tested.end && tested.begin < end_row &&
                                         tested.end > first_row);
          const Stored* gradient = grad + (base + part) * outputs + plane;
          const auto next = [&](int& roi, float& value) {
            roi = left ? device::lowest_bit(left) : -1;
            left &= left - 1;
            value = roi >= 0 && has_plane ? device::read(gradient + roi * outputs) : 0;
          };
          int roi;
          float value;
          next(roi, value);
          while (roi >= 0) {
            int following;
            float following_value;
            next(following, following_value);  // on its way while this one is added
            const Cells covered = rows_of[part + roi];
            const Span<Real> across{start[part + roi], bin[part + roi], true};
            const Cells columns = cells_of(across, j, width, convention);
            if (columns.begin < columns.end) {
              const float share = value / area(covered, columns);
              const int last = covered.end < end_row ? covered.end : end_row;
              for (int y = covered.begin > first_row ? covered.begin : first_row; y < last; ++y) {
                const int row = static_cast<int>(static_cast<Index>(y) * width - first);
                const int end = row + columns.end < cells ? row + columns.end : cells;
                for (int c = row + columns.begin > 0 ? row + columns.begin : 0; c < end; ++c) {
                  own[c] += share;
                }
              }
            }
            roi = following;
            value = following_value;
          }
        }
      }

      device::sync_warp();
      Stored* strips = grad_features + sample * outputs * map_cells + first;
      const Index planes = pairs - group * kWarp;
      if (aligned % device::kVectorBytes == 0) {
        store_strips<device::kVectorBytes / sizeof(Stored)>(sums[warp], strips, plane, map_cells,
                                                            planes, cells);
      } else if (sizeof(Stored) < 4 && aligned % 4 == 0) {
        store_strips<4 / sizeof(Stored)>(sums[warp], strips, plane, map_cells, planes, cells);
      } else {
        store_strips<1>(sums[warp], strips, plane, map_cells, planes, cells);
      }
      device::sync_warp();
    }
  }
}

}  // namespace lesionkit::psroi
