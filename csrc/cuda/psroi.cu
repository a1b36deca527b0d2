#include "psroi/kernel.cuh"

#include "cuda/dispatch.h"
#include "cuda/launch.cuh"

namespace lesionkit::cuda {
namespace {

namespace kernels = lesionkit::psroi;

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

// Several outputs share the arithmetic of their roi, once there are blocks enough for a whole device.
constexpr int outputs_per_thread(int64_t all_outputs) {
  return all_outputs < (1 << 18) ? 1 : all_outputs < (1 << 19) ? 2 : 4;
}

Grid forward_grid(const PsroiShape& shape, int per_thread) {
  const int64_t chunks = divide_up(shape.outputs(), kernels::kForwardThreads * per_thread);
  return {static_cast<unsigned>(at_most(shape.rois, kLargestGridX)),
          static_cast<unsigned>(at_most(chunks, kLargestGridY))};
}

int64_t backward_columns(const PsroiShape& shape) {
  return divide_up(shape.cells(), kernels::kBackwardWarps * kernels::kStrip);
}

Grid backward_grid(const PsroiShape& shape) {
  const int64_t groups = divide_up(shape.channels * shape.bins, kernels::kWarp);
  return {static_cast<unsigned>(backward_columns(shape)),
          static_cast<unsigned>(at_most(groups * shape.bins, kLargestGridY)),
          static_cast<unsigned>(at_most(shape.batch, kLargestGridY))};
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
      const int per_thread = outputs_per_thread(shape.rois * shape.outputs());
      return launch(kernels::forward<Stored, Real>, forward_grid(shape, per_thread),
                    kernels::kForwardThreads, 0, stream, static_cast<const Stored*>(features),
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
  if (!valid(shape, convention) || backward_columns(shape) > kLargestGridX) return kInvalidValue;
  return with_type(grad_type, [&]<class Stored>(Stored) {
    return with_rois_type(rois_type, [&]<class Real>(Real) {
      if (shape.batch == 0 || shape.channels == 0 || shape.cells() == 0) return 0;
      return launch(kernels::backward<Stored, Real>, backward_grid(shape),
                    kernels::kBackwardThreads, 0, stream, static_cast<const Stored*>(grad),
                    static_cast<const Real*>(rois), static_cast<Stored*>(grad_features), num_rois,
                    batch, channels, bins, height, width, spatial_scale, convention);
    });
  });
}
