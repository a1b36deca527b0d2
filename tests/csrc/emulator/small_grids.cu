// PSROI's kernels with grids as small as given: their loops over what the grid leaves out, which
// the launchers need for huge sizes alone.
#include "cuda/launch.cuh"
#include "psroi/kernel.cuh"

using namespace lesionkit;

extern "C" {
int lesionkit_small_forward(const float* features, const float* rois, float* pooled, int64_t count,
                            int64_t batch, int64_t outputs, int bins, int height, int width,
                            unsigned x, unsigned y, void* stream) {
  return cuda::launch(psroi::forward<float, float>, cuda::Grid{x, y}, psroi::kForwardThreads, 0,
                      stream, features, rois, pooled, count, batch, outputs, bins, height, width,
                      0.125, 0, 1);
}
int lesionkit_small_backward(const float* grad, const float* rois, float* result, int64_t count,
                             int64_t batch, int64_t channels, int bins, int height, int width,
                             unsigned y, unsigned z, void* stream) {
  const int64_t strips = cuda::divide_up(int64_t{height} * width,
                                         psroi::kBackwardWarps * psroi::kStrip);
  return cuda::launch(psroi::backward<float, float>,
                      cuda::Grid{static_cast<unsigned>(strips), y, z}, psroi::kBackwardThreads, 0,
                      stream, grad, rois, result, count, batch, channels, bins, height, width,
                      0.125, 0);
}
}
