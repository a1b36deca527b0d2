#include "contextual/kernel.cuh"

#include "cuda/dispatch.h"
#include "cuda/geometry.h"
#include "cuda/launch.cuh"
#include "temperature.h"

namespace lesionkit::cuda {
namespace {

namespace kernels = lesionkit::contextual;

template <class X, class L, int N>
int forward(const X* x, const L* logits, X* y, int64_t samples, int64_t images, int64_t columns,
            float scale, void* stream) {
  return with_images<std::is_same_v<X, L> && N != 1>(images, [&]<int M>(Constant<M>) {
    constexpr int kThreads = kernels::kMostThreads;
    if (!contextual_fits(samples, columns, N, kThreads)) return kInvalidValue;
    const auto [grid, threads] = contextual_geometry(samples, columns, N, kThreads);
    if constexpr (M > 0) {
      return launch(kernels::forward<X, L, N, M>, grid, threads, 0, stream, x, logits, y, samples,
                    columns, scale);
    } else {
      return launch(kernels::forward_any<X, L, N>, grid, threads, 0, stream, x, logits, y, samples,
                    images, columns, scale);
    }
  });
}

template <class X, class L, int N>
int backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits, int64_t samples,
             int64_t images, int64_t columns, float scale, float inverse_temperature,
             void* stream) {
  return with_images<std::is_same_v<X, L> && N != 1>(images, [&]<int M>(Constant<M>) {
    constexpr int kThreads = kernels::most_threads(M * N);
    if (!contextual_fits(samples, columns, N, kThreads)) return kInvalidValue;
    const auto [grid, threads] = contextual_geometry(samples, columns, N, kThreads);
    if constexpr (M > 0) {
      return launch(kernels::backward<X, L, N, M>, grid, threads, 0, stream, grad, x, logits, dx,
                    dlogits, samples, columns, scale, inverse_temperature);
    } else {
      return launch(kernels::backward_any<X, L, N>, grid, threads, 0, stream, grad, x, logits, dx,
                    dlogits, samples, images, columns, scale, inverse_temperature);
    }
  });
}

}  // namespace
}  // namespace lesionkit::cuda

using namespace lesionkit::cuda;

int lesionkit_contextual_forward(const void* x, const void* logits, void* y, int x_type,
                                 int logits_type, int64_t samples, int64_t images, int64_t columns,
                                 double temperature, void* stream) {
  if (samples < 0 || images < 0 || columns < 0) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (samples == 0 || images == 0 || columns == 0) return 0;
      constexpr int N = kLanes<X, L>;
      const bool vectors =
          columns % N == 0 && aligned<X>(N, x, y) && aligned<L>(N, logits);
      const auto run = vectors ? forward<X, L, N> : forward<X, L, 1>;
      return run(static_cast<const X*>(x), static_cast<const L*>(logits), static_cast<X*>(y),
                 samples, images, columns, lesionkit::exp2_scale<float>(temperature), stream);
    });
  });
}

int lesionkit_contextual_backward(const void* grad, const void* x, const void* logits, void* dx,
                                  void* dlogits, int x_type, int logits_type, int64_t samples,
                                  int64_t images, int64_t columns, double temperature,
                                  void* stream) {
  if (samples < 0 || images < 0 || columns < 0) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (samples == 0 || images == 0 || columns == 0) return 0;
      constexpr int N = kLanes<X, L>;
      const bool vectors = columns % N == 0 && aligned<X>(N, grad, x, dx) &&
                           aligned<L>(N, logits, dlogits);
      const auto run = vectors ? backward<X, L, N> : backward<X, L, 1>;
      return run(static_cast<const X*>(grad), static_cast<const X*>(x),
                 static_cast<const L*>(logits), static_cast<X*>(dx), static_cast<L*>(dlogits),
                 samples, images, columns, lesionkit::exp2_scale<float>(temperature),
                 lesionkit::inverse<float>(temperature), stream);
    });
  });
}
