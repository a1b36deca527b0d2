// Which kernel, grid and block a size gets. Nothing here needs CUDA.
#pragma once

#include <cstdint>

#include "cuda/grid.h"

namespace lesionkit::cuda {

constexpr int kWarpThreads = 32;

struct Geometry {
  Grid grid;
  int threads;
};

constexpr int whole_warps(int64_t threads) {
  return static_cast<int>(divide_up(threads, kWarpThreads)) * kWarpThreads;
}

// Contextual: a thread for `lanes` columns; the grid's height and depth count the samples.
constexpr Geometry contextual_geometry(int64_t samples, int64_t columns, int lanes,
                                       int most_threads) {
  const int64_t vectors = divide_up(columns, lanes);
  const int threads = whole_warps(at_most(vectors, most_threads));
  return {{static_cast<unsigned>(divide_up(vectors, threads)),
           static_cast<unsigned>(at_most(samples, kLargestGridY)),
           static_cast<unsigned>(divide_up(samples, kLargestGridY))},
          threads};
}

// Whether that grid exists; beyond are 2^37 columns or 2^32 samples.
constexpr bool contextual_fits(int64_t samples, int64_t columns, int lanes, int most_threads) {
  return divide_up(divide_up(columns, lanes), most_threads) <= kLargestGridX &&
         samples <= kLargestGridY * kLargestGridY;
}

// `blocks` in one row as far as a row goes, then in rows of that length.
constexpr Grid folded(int64_t blocks) {
  return {static_cast<unsigned>(at_most(blocks, kLargestGridX)),
          static_cast<unsigned>(divide_up(blocks, kLargestGridX))};
}
constexpr bool folds(int64_t blocks) { return divide_up(blocks, kLargestGridX) <= kLargestGridY; }

// Spatial: how many vectors of `lanes` cells a thread holds in registers, and whether a plane has
// a warp or a block. 0 vectors: the plane is too large and is read again instead.
struct SpatialPlan {
  int vectors;
  bool warp;
  Geometry geometry;
};

constexpr int kSpatialThreads = 512;
constexpr int kSpatialNumbers = 32;  // of each tensor in a thread's registers
constexpr int kSpatialWarps = 4;

constexpr SpatialPlan spatial_plan(int64_t planes, int64_t cells, int lanes) {
  const int64_t vectors = divide_up(cells, lanes);
  for (const int each : {1, 2, 4}) {
    if (vectors <= each * kWarpThreads) {
      return {each, true,
              {folded(divide_up(planes, kSpatialWarps)), kSpatialWarps * kWarpThreads}};
    }
  }
  for (const int each : {4, 8}) {
    if (each * lanes <= kSpatialNumbers && vectors <= each * kSpatialThreads) {
      return {each, false, {folded(planes), whole_warps(divide_up(vectors, each))}};
    }
  }
  return {0, false, {folded(planes), kSpatialThreads}};
}

// The same for the kernels that hold nothing in registers.
constexpr Geometry spatial_geometry(int64_t planes, int64_t cells, int lanes) {
  return {folded(planes), whole_warps(at_most(divide_up(cells, lanes), kSpatialThreads))};
}

// Dual: a block for the M planes of a sample and channel.
constexpr Geometry dual_geometry(int64_t samples, int64_t channels, int64_t cells, int lanes,
                                 int most_threads) {
  return {folded(samples * channels), whole_warps(at_most(divide_up(cells, lanes), most_threads))};
}

// Partial sums of the planes in shared memory, within the 48 KB that every device has.
constexpr int64_t kDualImages = 128;
constexpr int dual_forward_shared(int64_t images) { return static_cast<int>(images) * 33 * 4; }
constexpr int dual_backward_shared(int64_t images) { return static_cast<int>(images) * 66 * 4; }

// PSROI: the kernels step by the grid where it is smaller, but for the columns of the backward.
constexpr int kPsroiForwardThreads = 256;
constexpr int kPsroiBackwardCells = 4 * 64;  // of a block: 4 warps with a strip each

// Several outputs share the arithmetic of their roi, once there are blocks enough for a whole device.
constexpr int psroi_outputs_per_thread(int64_t all_outputs) {
  return all_outputs < (1 << 18) ? 1 : all_outputs < (1 << 19) ? 2 : 4;
}

// `outputs` are the channels * bins * bins of a roi.
constexpr Grid psroi_forward_grid(int64_t rois, int64_t outputs, int per_thread) {
  const int64_t chunks = divide_up(outputs, kPsroiForwardThreads * per_thread);
  return {static_cast<unsigned>(at_most(rois, kLargestGridX)),
          static_cast<unsigned>(at_most(chunks, kLargestGridY))};
}

constexpr int64_t psroi_backward_columns(int64_t cells) {
  return divide_up(cells, kPsroiBackwardCells);
}
constexpr bool psroi_backward_fits(int64_t cells) {
  return psroi_backward_columns(cells) <= kLargestGridX;
}
constexpr Grid psroi_backward_grid(int64_t batch, int64_t channels, int bins, int64_t cells) {
  const int64_t groups = divide_up(channels * bins, kWarpThreads);
  return {static_cast<unsigned>(psroi_backward_columns(cells)),
          static_cast<unsigned>(at_most(groups * bins, kLargestGridY)),
          static_cast<unsigned>(at_most(batch, kLargestGridY))};
}

}  // namespace lesionkit::cuda
