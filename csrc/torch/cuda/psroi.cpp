#include "torch/psroi.h"

#include "torch/cuda/common.h"

namespace lesionkit {
namespace {

int rois_type(const Tensor& rois) {
  return rois.scalar_type() == ScalarType::Double ? LESIONKIT_FLOAT64 : LESIONKIT_FLOAT32;
}

int number_of(psroi::Convention convention) {
  return convention == psroi::Convention::rfcn ? LESIONKIT_RFCN : LESIONKIT_TORCHVISION;
}

Tensor forward(const Tensor& features, const Tensor& rois, int64_t bins, double spatial_scale,
               std::string convention_name) {
  const auto convention = convention_of(convention_name);
  const PsroiSizes sizes = forward_sizes(features, rois, bins);
  const int type = stored_type(features, "features");
  const OnDeviceOf device(features);
  const Tensor packed = torch::stable::contiguous(features);
  const Tensor packed_rois = torch::stable::contiguous(rois);
  const Tensor pooled =
      torch::stable::new_empty(features, {sizes.rois, sizes.channels, bins, bins});
  check_launch(
      lesionkit_psroi_forward(packed.const_data_ptr(), packed_rois.const_data_ptr(),
                              pooled.mutable_data_ptr(), type, rois_type(rois),
                              sizes.rois, sizes.batch, sizes.channels, sizes.bins,
                              sizes.height, sizes.width, spatial_scale, number_of(convention),
                              device.stream()),
      "ps_roi_pool");
  return pooled;
}

Tensor backward(const Tensor& grad, const Tensor& rois, int64_t batch, int64_t height,
                int64_t width, double spatial_scale, std::string convention_name) {
  const auto convention = convention_of(convention_name);
  const PsroiSizes sizes = backward_sizes(grad, rois, batch, height, width);
  const int type = stored_type(grad, "grad");
  const OnDeviceOf device(grad);
  const Tensor packed = torch::stable::contiguous(grad);
  const Tensor packed_rois = torch::stable::contiguous(rois);
  const Tensor grad_features = torch::stable::new_empty(
      grad, {batch, sizes.channels * sizes.bins * sizes.bins, height, width});
  check_launch(
      lesionkit_psroi_backward(packed.const_data_ptr(), packed_rois.const_data_ptr(),
                               grad_features.mutable_data_ptr(), type, rois_type(rois),
                               sizes.rois, sizes.batch, sizes.channels, sizes.bins,
                               sizes.height, sizes.width, spatial_scale, number_of(convention),
                               device.stream()),
      "ps_roi_pool_backward");
  return grad_features;
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CUDA, m) {
  m.impl("ps_roi_pool", TORCH_BOX(&forward));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
