#include "spatial/kernel.cuh"

#include "cuda/dispatch.h"
#include "cuda/geometry.h"
#include "cuda/launch.cuh"
#include "temperature.h"

namespace lesionkit::cuda {
namespace {

namespace kernels = lesionkit::spatial;
static_assert(kSpatialThreads == kernels::kMostThreads);
static_assert(kSpatialWarps == kernels::kWarpsPerBlock);

// Calls body<V, edges, warp>() for a plan that has registers.
template <int N, class Body>
int with_plan(const SpatialPlan& plan, int64_t cells, const Body& body) {
  const auto with_edges = [&]<int V, bool warp>() {
    return cells % N == 0 ? body.template operator()<V, false, warp>()
                          : body.template operator()<V, true, warp>();
  };
  if (plan.warp) {
    switch (plan.vectors) {
      case 1:
        return with_edges.template operator()<1, true>();
      case 2:
        return with_edges.template operator()<2, true>();
      default:
        return with_edges.template operator()<4, true>();
    }
  }
  if constexpr (8 * N <= kSpatialNumbers) {
    if (plan.vectors == 8) return with_edges.template operator()<8, false>();
  }
  return with_edges.template operator()<4, false>();
}

template <class X, class L>
int forward(const X* x, const L* logits, X* y, int64_t planes, int64_t cells, float scale,
            void* stream) {
  constexpr int N = kLanes<X, L>;
  const bool vectors = aligned<X>(N, x, y) && aligned<L>(N, logits);
  if constexpr (std::is_same_v<X, L>) {
    const SpatialPlan plan = spatial_plan(planes, cells, N);
    if (vectors && plan.vectors > 0) {
      return with_plan<N>(plan, cells, [&]<int V, bool edges, bool warp>() {
        return launch(kernels::forward<X, N, V, edges, warp>, plan.geometry.grid,
                      plan.geometry.threads, 0, stream, x, logits, y, planes, cells, scale);
      });
    }
  }
  const auto [grid, threads] = spatial_geometry(planes, cells, vectors ? N : 1);
  return launch(vectors ? kernels::forward_any<X, L, N> : kernels::forward_any<X, L, 1>, grid,
                threads, 0, stream, x, logits, y, planes, cells, scale);
}

template <class X, class L>
int backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits, int64_t planes,
             int64_t cells, float scale, float inverse_temperature, void* stream) {
  constexpr int N = kLanes<X, L>;
  const bool vectors = aligned<X>(N, grad, x, dx) && aligned<L>(N, logits, dlogits);
  if constexpr (std::is_same_v<X, L>) {
    const SpatialPlan plan = spatial_plan(planes, cells, N);
    if (vectors && plan.vectors > 0) {
      return with_plan<N>(plan, cells, [&]<int V, bool edges, bool warp>() {
        return launch(kernels::backward<X, N, V, edges, warp>, plan.geometry.grid,
                      plan.geometry.threads, 0, stream, grad, x, logits, dx, dlogits, planes, cells,
                      scale, inverse_temperature);
      });
    }
  }
  const auto [grid, threads] = spatial_geometry(planes, cells, vectors ? N : 1);
  return launch(vectors ? kernels::backward_any<X, L, N> : kernels::backward_any<X, L, 1>, grid,
                threads, 0, stream, grad, x, logits, dx, dlogits, planes, cells, scale,
                inverse_temperature);
}

}  // namespace
}  // namespace lesionkit::cuda

using namespace lesionkit::cuda;

int lesionkit_spatial_forward(const void* x, const void* logits, void* y, int x_type,
                              int logits_type, int64_t planes, int64_t cells, double temperature,
                              void* stream) {
  if (planes < 0 || cells < 0 || !folds(planes)) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (planes == 0 || cells == 0) return 0;
      return forward(static_cast<const X*>(x), static_cast<const L*>(logits), static_cast<X*>(y),
                     planes, cells, lesionkit::exp2_scale<float>(temperature), stream);
    });
  });
}

int lesionkit_spatial_backward(const void* grad, const void* x, const void* logits, void* dx,
                               void* dlogits, int x_type, int logits_type, int64_t planes,
                               int64_t cells, double temperature, void* stream) {
  if (planes < 0 || cells < 0 || !folds(planes)) return kInvalidValue;
  return with_type(x_type, [&]<class X>(X) {
    return with_type(logits_type, [&]<class L>(L) {
      if (planes == 0 || cells == 0) return 0;
      return backward(static_cast<const X*>(grad), static_cast<const X*>(x),
                      static_cast<const L*>(logits), static_cast<X*>(dx), static_cast<L*>(dlogits),
                      planes, cells, lesionkit::exp2_scale<float>(temperature),
                      lesionkit::inverse<float>(temperature), stream);
    });
  });
}
