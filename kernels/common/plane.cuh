// How the cells of an H x W plane are shared out among threads.
#pragma once

#include "common/device.cuh"

namespace lesionkit::device {

// The block's number in a grid whose height and depth continue its width.
__device__ __forceinline__ Index block_number() {
  return Index{blockIdx.y} * gridDim.x + blockIdx.x;
}

// How a plane that begins at element `start` falls into aligned vectors of N cells: planes of an odd
// size begin anywhere, the tensors themselves on a vector. What is left before the first and after
// the last vector, fewer than 2 N cells, are its edges.
template <int N>
struct Division {
  Index head;     // cells before the first vector
  Index vectors;  // whole ones
  Index edges;    // cells in none

  __device__ __forceinline__ Division(Index start, Index cells) {
    head = N == 1 ? 0 : (N - start % N) % N;
    if (head > cells) head = cells;
    vectors = (cells - head) / N;
    edges = cells - vectors * N;
  }
  __device__ __forceinline__ Index vector_cell(Index vector) const { return head + vector * N; }
  __device__ __forceinline__ Index edge_cell(Index edge) const {
    return edge < head ? edge : edge + vectors * N;
  }
};

template <int N>
struct Lanes {
  static constexpr int count = N;
};

// Calls body(Lanes<N>{}, cell) for the first cells of all vectors and body(Lanes<1>{}, cell) for the
// edges that are this thread's, of `threads`; `unroll` of the former are in flight together.
template <int unroll, int N, class Body>
__device__ __forceinline__ void for_own_cells(const Division<N>& plane, int thread, int threads,
                                              const Body& body) {
#pragma unroll unroll
  for (Index vector = thread; vector < plane.vectors; vector += threads) {
    body(Lanes<N>{}, plane.vector_cell(vector));
  }
  if constexpr (N > 1) {
    for (Index edge = thread; edge < plane.edges; edge += threads) {
      body(Lanes<1>{}, plane.edge_cell(edge));
    }
  }
}

// The same for a block, but with whole warps: body(lanes, cell, has_cells) is also called where the
// thread has no cells and others of its warp do.
template <int N, class Body>
__device__ __forceinline__ void for_warp_cells(const Division<N>& plane, const Body& body) {
  const int lane = threadIdx.x % kWarp;
  for (Index first = threadIdx.x - lane; first < plane.vectors; first += blockDim.x) {
    const Index vector = first + lane;
    body(Lanes<N>{}, plane.vector_cell(vector), vector < plane.vectors);
  }
  if constexpr (N > 1) {
    for (Index first = threadIdx.x - lane; first < plane.edges; first += blockDim.x) {
      const Index edge = first + lane;
      body(Lanes<1>{}, plane.edge_cell(edge), edge < plane.edges);
    }
  }
}

}  // namespace lesionkit::device
