#include "torch/psroi.h"

#include "cpu/psroi.h"
#include "torch/cpu/common.h"

namespace lesionkit {
namespace {

cpu::PsroiShape shape_of(const PsroiSizes& sizes) {
  return {sizes.rois, sizes.batch, sizes.channels, sizes.bins, sizes.height, sizes.width};
}

// The plan and the memory it points to.
class Plan {
 public:
  Plan(const Tensor& rois, const cpu::PsroiShape& shape, double spatial_scale,
       psroi::Convention convention)
      : first_(allocate(sizeof(int64_t) * (shape.batch + 1))),
        roi_(allocate(sizeof(int64_t) * shape.rois)),
        edges_(allocate(sizeof(int32_t) * shape.rois * 4 * shape.bins)) {
    using namespace cpu;
    const Tensor packed = torch::stable::contiguous(rois);
    if (rois.scalar_type() == ScalarType::Double) {
      LESIONKIT_CALL_BEST(psroi_plan, input<double>(packed), shape, spatial_scale, convention,
                          view())
    } else {
      LESIONKIT_CALL_BEST(psroi_plan, input<float>(packed), shape, spatial_scale, convention,
                          view())
    }
  }

  cpu::PsroiPlan view() const {
    return {reinterpret_cast<int64_t*>(first_.get()), reinterpret_cast<int64_t*>(roi_.get()),
            reinterpret_cast<int32_t*>(edges_.get())};
  }

 private:
  std::unique_ptr<char[]> first_, roi_, edges_;
};

// Calls body(begin, end) on torch's threads for all bands.
template <class Body>
void for_bands(const cpu::PsroiShape& shape, int64_t cells_per_band, const Body& body) {
  const int64_t grain = 1 + kElementsPerTask / (1 + cells_per_band);
  torch::stable::parallel_for(0, shape.bands(), grain, body);
}

Tensor forward(const Tensor& features, const Tensor& rois, int64_t bins, double spatial_scale,
               std::string convention_name) {
  const auto convention = convention_of(convention_name);
  const auto shape = shape_of(forward_sizes(features, rois, bins));
  const Tensor pooled =
      torch::stable::new_empty(features, {shape.rois, shape.channels, bins, bins});
  if (pooled.numel() == 0) return pooled;
  if (features.numel() == 0) return torch::stable::fill_(pooled, 0);

  const Tensor packed = torch::stable::contiguous(features);
  const Plan plan(rois, shape, spatial_scale, convention);
  // A bin has about four cells.
  const int64_t cells_per_band = 4 * bins * (1 + shape.rois / shape.batch);
  with_stored_type(features, "features", [&]<class Stored>(Stored) {
    for_bands(shape, cells_per_band, [&](int64_t begin, int64_t end) {
      using namespace cpu;
      LESIONKIT_CALL_BEST(psroi_forward, input<Stored>(packed), plan.view(), shape,
                          output<Stored>(pooled), begin, end)
    });
  });
  return pooled;
}

Tensor backward(const Tensor& grad, const Tensor& rois, int64_t batch, int64_t height,
                int64_t width, double spatial_scale, std::string convention_name) {
  const auto convention = convention_of(convention_name);
  const auto shape = shape_of(backward_sizes(grad, rois, batch, height, width));
  const int64_t bins = shape.bins;
  const Tensor grad_features =
      torch::stable::new_empty(grad, {batch, shape.channels * bins * bins, height, width});
  if (grad_features.numel() == 0) return grad_features;

  const Tensor packed = torch::stable::contiguous(grad);
  const Plan plan(rois, shape, spatial_scale, convention);
  with_stored_type(grad, "grad", [&]<class Stored>(Stored) {
    for_bands(shape, shape.band_cells(), [&](int64_t begin, int64_t end) {
      using namespace cpu;
      const auto sums = allocate(sizeof(Stored) == 2 ? sizeof(float) * shape.band_cells() : 0);
      LESIONKIT_CALL_BEST(psroi_backward, input<Stored>(packed), plan.view(), shape,
                          output<Stored>(grad_features), reinterpret_cast<float*>(sums.get()),
                          begin, end)
    });
  });
  return grad_features;
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CPU, m) {
  m.impl("ps_roi_pool", TORCH_BOX(&forward));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
