#include "dual/kernel.cuh"

#include "cuda/dispatch.h"
#include "cuda/geometry.h"
#include "cuda/launch.cuh"
#include "temperature.h"

namespace lesionkit::cuda {
namespace {

namespace kernels = lesionkit::dual;

struct Shape {
  int64_t samples, images, channels, cells;

  bool fits() const {
    return samples >= 0 && images >= 0 && channels >= 0 && cells >= 0 && images <= kDualImages &&
           folds(samples * channels);
  }
  bool empty() const { return samples == 0 || images == 0 || channels == 0 || cells == 0; }
};

struct Temperatures {
  double contextual, spatial;
};

template <class X, class L, int N>
int forward(const X* x, const L* contextual, const L* spatial, X* y, Shape shape,
            Temperatures temperatures, void* stream) {
  return with_images<std::is_same_v<X, L> && N != 1>(shape.images, [&]<int M>(Constant<M>) {
    const auto [grid, threads] = dual_geometry(shape.samples, shape.channels, shape.cells, N,
                                               kernels::most_threads(M * N));
    return launch(kernels::forward<X, L, N, M>, grid, threads, dual_forward_shared(shape.images),
                  stream, x, contextual, spatial, y, shape.samples, shape.images, shape.channels,
                  shape.cells, exp2_scale<float>(temperatures.contextual),
                  exp2_scale<float>(temperatures.spatial));
  });
}

template <class X, class L, int N>
int backward(const X* grad, const X* x, const L* contextual, const L* spatial, X* dx,
             L* dcontextual, L* dspatial, Shape shape, Temperatures temperatures, void* stream) {
  return with_images<std::is_same_v<X, L> && N != 1>(shape.images, [&]<int M>(Constant<M>) {
    const auto [grid, threads] = dual_geometry(shape.samples, shape.channels, shape.cells, N,
                                               kernels::most_threads(M * N));
    return launch(kernels::backward<X, L, N, M>, grid, threads, dual_backward_shared(shape.images),
                  stream, grad, x, contextual, spatial, dx, dcontextual, dspatial, shape.samples,
                  shape.images, shape.channels, shape.cells,
                  exp2_scale<float>(temperatures.contextual),
                  exp2_scale<float>(temperatures.spatial), inverse<float>(temperatures.contextual),
                  inverse<float>(temperatures.spatial));
  });
}

}  // namespace
}  // namespace lesionkit::cuda

using namespace lesionkit::cuda;

int64_t lesionkit_dual_largest_images(void) { return kDualImages; }

int lesionkit_dual_forward(const void* x, const void* contextual_logits, const void* spatial_logits,
                           void* y, int x_type, int logits_type, int64_t samples, int64_t images,
                           int64_t channels, int64_t cells, double contextual_temperature,
                           double spatial_temperature, void* stream) {
  const Shape shape{samples, images, channels, cells};
  if (!shape.fits()) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (shape.empty()) return 0;
      constexpr int N = kLanes<X, L>;
      // Planes of one block must begin alike on the vectors.
      const bool vectors = channels * cells % N == 0 && aligned<X>(N, x, y) &&
                           aligned<L>(N, contextual_logits, spatial_logits);
      const auto run = vectors ? forward<X, L, N> : forward<X, L, 1>;
      return run(static_cast<const X*>(x), static_cast<const L*>(contextual_logits),
                 static_cast<const L*>(spatial_logits), static_cast<X*>(y), shape,
                 {contextual_temperature, spatial_temperature}, stream);
    });
  });
}

int lesionkit_dual_backward(const void* grad, const void* x, const void* contextual_logits,
                            const void* spatial_logits, void* dx, void* dcontextual_logits,
                            void* dspatial_logits, int x_type, int logits_type, int64_t samples,
                            int64_t images, int64_t channels, int64_t cells,
                            double contextual_temperature, double spatial_temperature,
                            void* stream) {
  const Shape shape{samples, images, channels, cells};
  if (!shape.fits()) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (shape.empty()) return 0;
      constexpr int N = kLanes<X, L>;
      const bool vectors =
          channels * cells % N == 0 && aligned<X>(N, grad, x, dx) &&
          aligned<L>(N, contextual_logits, spatial_logits, dcontextual_logits, dspatial_logits);
      const auto run = vectors ? backward<X, L, N> : backward<X, L, 1>;
      return run(static_cast<const X*>(grad), static_cast<const X*>(x),
                 static_cast<const L*>(contextual_logits), static_cast<const L*>(spatial_logits),
                 static_cast<X*>(dx), static_cast<L*>(dcontextual_logits),
                 static_cast<L*>(dspatial_logits), shape,
                 {contextual_temperature, spatial_temperature}, stream);
    });
  });
}
