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

// Whether that grid exists: beyond are 2^37 columns or 2^31 samples, more than memory holds.
constexpr bool contextual_fits(int64_t samples, int64_t columns, int lanes, int most_threads) {
  return divide_up(divide_up(columns, lanes), most_threads) <= kLargestGridX &&
         samples <= kLargestGridY * kLargestGridY;
}

}  // namespace lesionkit::cuda
