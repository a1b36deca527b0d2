#include "psroi/kernel.cuh"

#include "cuda/dispatch.h"
#include "cuda/geometry.h"
#include "cuda/launch.cuh"

namespace lesionkit::cuda {
namespace {

namespace kernels = lesionkit::psroi;
static_assert(kPsroiForwardThreads == kernels::kForwardThreads);
static_assert(kPsroiBackwardCells == kernels::kBackwardWarps * kernels::kStrip);

constexpr int kMostBins = 1 << 15;
constexpr int kMostExtent = 1 << 30;

struct PsroiShape {
  int64_t rois, batch, channels;
  int bins, height, width;

  int64_t cells() const { return int64_t{height} * width; }
  int64_t outputs() const { return channels * bins * bins; }
};

bool valid(const PsroiShape& shape, int convention) {
  return shape.rois >= 0 && shape.batch >= 0 && shape.batch <= kMostExtent && shape.channels >= 0 &&
         shape.bins >= 1 && shape.bins <= kMostBins && shape.height >= 0 &&
         shape.height <= kMostExtent && shape.width >= 0 && shape.width <= kMostExtent &&
         (convention == LESIONKIT_RFCN || convention == LESIONKIT_TORCHVISION);
}

template <class Body>
int with_rois_type(int type, const Body& body) {
  if (type == LESIONKIT_FLOAT32) return body(float{});
  if (type == LESIONKIT_FLOAT64) return body(double{});
  return kInvalidValue;
}

}  // namespace
}  // namespace lesionkit::cuda

using namespace lesionkit::cuda;

int lesionkit_psroi_forward(const void* features, const void* rois, void* pooled,
                            int features_type, int rois_type, int64_t num_rois, int64_t batch,
                            int64_t channels, int bins, int height, int width,
                            double spatial_scale, int convention, void* stream) {
  const PsroiShape shape{num_rois, batch, channels, bins, height, width};
  if (!valid(shape, convention)) return kInvalidValue;
  return with_type(features_type, [&]<class Stored>(Stored) {
    return with_rois_type(rois_type, [&]<class Real>(Real) {
      if (shape.rois == 0 || shape.channels == 0) return 0;
      const int per_thread = psroi_outputs_per_thread(shape.rois * shape.outputs());
      const Grid grid = psroi_forward_grid(shape.rois, shape.outputs(), per_thread);
      return launch(kernels::forward<Stored, Real>, grid, kernels::kForwardThreads, 0, stream,
                    static_cast<const Stored*>(features),
                    static_cast<const Real*>(rois), static_cast<Stored*>(pooled), num_rois, batch,
                    shape.outputs(), bins, height, width, spatial_scale, convention, per_thread);
    });
  });
}

int lesionkit_psroi_backward(const void* grad, const void* rois, void* grad_features,
                             int grad_type, int rois_type, int64_t num_rois, int64_t batch,
                             int64_t channels, int bins, int height, int width,
                             double spatial_scale, int convention, void* stream) {
  const PsroiShape shape{num_rois, batch, channels, bins, height, width};
  if (!valid(shape, convention) || !psroi_backward_fits(shape.cells())) return kInvalidValue;
  return with_type(grad_type, [&]<class Stored>(Stored) {
    return with_rois_type(rois_type, [&]<class Real>(Real) {
      if (shape.batch == 0 || shape.channels == 0 || shape.cells() == 0) return 0;
      const Grid grid = psroi_backward_grid(shape.batch, shape.channels, bins, shape.cells());
      return launch(kernels::backward<Stored, Real>, grid, kernels::kBackwardThreads, 0, stream,
                    static_cast<const Stored*>(grad),
                    static_cast<const Real*>(rois), static_cast<Stored*>(grad_features), num_rois,
                    batch, channels, bins, height, width, spatial_scale, convention);
    });
  });
}
