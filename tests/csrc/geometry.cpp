// Launch geometry and index arithmetic at sizes that no test can allocate. Prints what is wrong.
#include <cstdio>

#include "common/plane.cuh"
#include "contextual/kernel.cuh"
#include "cuda/geometry.h"
#include "dual/kernel.cuh"
#include "psroi/kernel.cuh"
#include "spatial/kernel.cuh"

using namespace lesionkit;
using namespace lesionkit::cuda;
using device::Division;
using device::Index;

namespace {

constexpr int64_t kBillions = int64_t{1} << 31;
constexpr int64_t kSizes[] = {1,  2,  3,  7,  31,  32,  33,   127,  128,  129,  511, 512, 1023, 1024,
                              4095, 4096, 4097, 16383, 16384, 65535, 65536, 65537, 1 << 20};
constexpr int64_t kLargeSizes[] = {kBillions - 1, kBillions, kBillions + 1, 3 * kBillions + 5,
                                   int64_t{1} << 33, (int64_t{1} << 35) + 3};
int failures = 0;

void expect(bool holds, const char* what, int64_t a, int64_t b = 0, int64_t c = 0) {
  if (holds) return;
  if (++failures < 20) std::printf("%s: %lld %lld %lld\n", what, (long long)a, (long long)b, (long long)c);
}

int64_t blocks(Grid grid) { return int64_t{grid.x} * grid.y * grid.z; }

void check_launchable(const Geometry& geometry, int most_threads, const char* what, int64_t a,
                      int64_t b) {
  const auto [grid, threads] = geometry;
  expect(grid.x >= 1 && grid.x <= kLargestGridX && grid.y >= 1 && grid.y <= kLargestGridY &&
             grid.z >= 1 && grid.z <= kLargestGridY,
         what, a, b);
  expect(threads >= 32 && threads <= most_threads && threads % 32 == 0, what, a, b, threads);
}

template <class Body>
void for_sizes(const Body& body) {
  for (const int64_t size : kSizes) body(size);
  for (const int64_t size : kLargeSizes) body(size);
}

void check_contextual(int64_t samples, int64_t columns, int lanes, int most_threads) {
  if (!contextual_fits(samples, columns, lanes, most_threads)) {
    expect(samples > kBillions || columns > int64_t{1} << 36, "contextual refuses", samples, columns);
    return;
  }
  const Geometry geometry = contextual_geometry(samples, columns, lanes, most_threads);
  check_launchable(geometry, most_threads, "contextual grid", samples, columns);
  const int64_t step = int64_t{geometry.threads} * lanes;
  const int64_t covered = geometry.grid.x * step;
  expect(covered >= columns && covered - step < columns, "contextual columns", columns, lanes);
  const int64_t rows = int64_t{geometry.grid.y} * geometry.grid.z;
  expect(rows >= samples && rows - geometry.grid.y < samples, "contextual samples", samples);

  // The last thread owns the last columns of the last sample, reckoned as the kernel does.
  gridDim = dim3(geometry.grid.x, geometry.grid.y, geometry.grid.z);
  blockDim = dim3(geometry.threads);
  blockIdx = dim3(geometry.grid.x - 1, (samples - 1) % geometry.grid.y, (samples - 1) / geometry.grid.y);
  threadIdx = dim3(0);
  expect(contextual::own_sample() == samples - 1, "own_sample", samples, contextual::own_sample());
  if (lanes == 4) {
    expect(contextual::own_column<4>() == covered - step, "own_column", columns, covered);
  }
}

void check_folded(Grid grid, int64_t wanted, const char* what) {
  expect(blocks(grid) >= wanted && blocks(grid) - grid.x < wanted, what, wanted, blocks(grid));
  gridDim = dim3(grid.x, grid.y);
  blockIdx = dim3((wanted - 1) % grid.x, (wanted - 1) / grid.x);
  expect(device::block_number() == wanted - 1, "block_number", wanted, device::block_number());
}

void check_spatial(int64_t planes, int64_t cells, int lanes) {
  const SpatialPlan plan = spatial_plan(planes, cells, lanes);
  check_launchable(plan.geometry, kSpatialThreads, "spatial plan", planes, cells);
  const int64_t threads = plan.warp ? 32 : plan.geometry.threads;
  if (plan.vectors > 0) {
    expect(plan.vectors * threads * lanes >= cells, "spatial registers hold the plane", cells, lanes);
    expect(threads >= 2 * lanes, "a thread for each edge", cells, lanes);
    expect(plan.vectors * lanes <= kSpatialNumbers, "spatial registers", cells, lanes);
  } else {
    expect(lanes == 1 || cells > 16384, "spatial holds 16384 cells", cells, lanes);
  }
  check_folded(plan.geometry.grid, plan.warp ? divide_up(planes, kSpatialWarps) : planes, "spatial planes");
  const Geometry geometry = spatial_geometry(planes, cells, lanes);
  check_launchable(geometry, kSpatialThreads, "spatial grid", planes, cells);
  check_folded(geometry.grid, planes, "spatial planes");
}

template <int N>
void check_division(Index start, Index cells) {
  const Division<N> plane(start, cells);
  expect(plane.head + plane.vectors * N <= cells && plane.edges == cells - plane.vectors * N,
         "division", start, cells, N);
  expect(plane.edges <= 2 * (N - 1), "edges", start, cells, plane.edges);
  expect(plane.vectors == 0 || (start + plane.head) % N == 0, "vectors are aligned", start, cells, N);
  Index expected = 0;
  for (Index edge = 0; edge < plane.edges; ++edge, ++expected) {
    if (edge == plane.head) expected += plane.vectors * N;
    expect(plane.edge_cell(edge) == expected, "edge_cell", start, cells, edge);
  }
  if (plane.edges == plane.head) expected += plane.vectors * N;
  expect(expected == cells, "every cell once", start, cells, N);
}

void check_psroi_forward(int64_t rois, int64_t outputs) {
  for (const int per_thread : {1, 2, 4}) {
    const Grid grid = psroi_forward_grid(rois, outputs, per_thread);
    check_launchable({grid, kPsroiForwardThreads}, psroi::kForwardThreads, "psroi forward grid",
                     rois, outputs);
    const int64_t chunk = int64_t{psroi::kForwardThreads} * per_thread;
    expect(grid.x == at_most(rois, kLargestGridX), "psroi rois", rois, grid.x);
    expect((grid.y - 1) * chunk < outputs, "psroi idle chunks", outputs, grid.y, per_thread);
    expect(grid.y == kLargestGridY || grid.y * chunk >= outputs, "psroi chunks", outputs, grid.y,
           per_thread);
  }
}

void check_psroi_backward(int64_t batch, int64_t channels, int bins, int64_t cells) {
  if (!psroi_backward_fits(cells)) {
    expect(cells > int64_t{1} << 38, "psroi refuses", cells);
    return;
  }
  const Grid grid = psroi_backward_grid(batch, channels, bins, cells);
  check_launchable({grid, psroi::kBackwardThreads}, psroi::kBackwardThreads, "psroi backward grid",
                   batch, channels);
  // Columns are not stepped over: the blocks' strips hold every cell once, reckoned as the kernel does.
  const int64_t covered = int64_t{grid.x} * psroi::kBackwardWarps * psroi::kStrip;
  expect(covered >= cells && covered - kPsroiBackwardCells < cells, "psroi cells", cells, grid.x);
  const int64_t tasks = divide_up(channels * bins, 32) * bins;
  expect(grid.y == at_most(tasks, kLargestGridY), "psroi tasks", channels, bins, grid.y);
  expect(grid.z == at_most(batch, kLargestGridY), "psroi samples", batch, grid.z);
}

void check_psroi(int64_t a, int64_t b) {
  check_psroi_forward(a, b);
  for (const int bins : {1, 7, 1 << 15}) {
    check_psroi_backward(a, b, bins, 64 * 64);
    check_psroi_backward(2, b, bins, a);
  }
  if (b < kBillions) {
    expect(psroi::quotient(a, static_cast<int>(b)) == a / b, "quotient", a, b);
  }
}

void check_share(Index plane, int cells) {
  gridDim = dim3(kLargestGridX, kLargestGridY);
  blockIdx = dim3(plane % kLargestGridX, plane / kLargestGridX);
  blockDim = dim3(512);
  threadIdx = dim3(511);
  const spatial::Share<4, 8, true, false> own(cells);
  expect(own.plane == plane && own.start == plane * cells, "start of a plane", plane, cells, own.start);
  const Index last = own.start + own.head + (511 + 7 * 512) * 4;
  expect(own.element(7) == last, "element", plane, cells, own.element(7));
}

}  // namespace

int main() {
  for_sizes([](int64_t a) {
    for_sizes([a](int64_t b) {
      for (const int lanes : {1, 4, 8}) {
        for (const int threads : {64, 128}) check_contextual(a, b, lanes, threads);
        if (folds(a)) check_spatial(a, b, lanes);
      }
      check_psroi(a, b);
      check_division<1>(a, b);
      check_division<4>(a, b);
      check_division<8>(a, b);
    });
    for (const int cells : {1023, 4096, 16384}) check_share(a, cells);
    const Geometry dual = dual_geometry(a, 512, 4096, 4, 256);
    check_launchable(dual, 256, "dual grid", a, 512);
    check_folded(dual.grid, a * 512, "dual planes");
    // Sample and channel of a block, back from its number.
    const Index block = a * 512 - 1;
    gridDim = dim3(dual.grid.x, dual.grid.y);
    blockIdx = dim3(block % dual.grid.x, block / dual.grid.x);
    const Index expected = ((a - 1) * 9 * 512 + 511) * 4096;
    expect(dual::own_start(a, 9, 512, 4096) == expected, "own_start", a, expected);
    expect(dual::own_start(a - 1, 9, 512, 4096) == -1, "own_start beyond the end", a);
  });
  constexpr int64_t kMostCells = kLargestGridX * kPsroiBackwardCells;
  check_psroi_backward(1, 1, 1, kMostCells);
  expect(psroi_backward_fits(kMostCells) && !psroi_backward_fits(kMostCells + 1), "psroi limit",
         kMostCells);
  for (const int64_t all : {int64_t{1}, (int64_t{1} << 18) - 1, int64_t{1} << 18,
                            (int64_t{1} << 19) - 1, int64_t{1} << 19, kBillions, 3 * kBillions}) {
    const int expected = all >> 19 ? 4 : all >> 18 ? 2 : 1;
    expect(psroi_outputs_per_thread(all) == expected, "psroi outputs per thread", all);
  }
  expect(dual_backward_shared(kDualImages) <= 48 << 10, "dual shared memory", kDualImages);
  std::printf("%d failures\n", failures);
  return failures != 0;
}
