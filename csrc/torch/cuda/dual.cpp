#include "torch/attention.h"
#include "torch/cuda/common.h"

namespace lesionkit {
namespace {

// Both sets of logits, contiguous and of one type.
struct Logits {
  Tensor contextual, spatial;
  int type;
};

Logits read_logits(const Tensor& x, const Tensor& contextual, const Tensor& spatial) {
  stored_type(contextual, "contextual_logits");
  stored_type(spatial, "spatial_logits");
  const ScalarType type = common_logits_type(x, contextual, spatial);
  const Tensor contextual_read = contiguous_as(contextual, type);
  return {contextual_read, contiguous_as(spatial, type), stored_type(contextual_read, "logits")};
}

void check_images(const Tensor& x) {
  STD_TORCH_CHECK(x.size(1) <= lesionkit_dual_largest_images(), "x must have at most ",
                  lesionkit_dual_largest_images(), " images on a CUDA device, got ", x.size(1));
}

Tensor forward(const Tensor& x, const Tensor& contextual, const Tensor& spatial,
               double contextual_temperature, double spatial_temperature) {
  check_dual(x, contextual, spatial, contextual_temperature, spatial_temperature);
  check_images(x);
  const int x_type = stored_type(x, "x");
  const OnDeviceOf device(x);
  const Logits logits = read_logits(x, contextual, spatial);
  const Tensor x_read = torch::stable::contiguous(x);
  const Tensor y = torch::stable::empty_like(x_read);
  check_launch(lesionkit_dual_forward(x_read.const_data_ptr(), logits.contextual.const_data_ptr(),
                                      logits.spatial.const_data_ptr(), y.mutable_data_ptr(), x_type,
                                      logits.type, x.size(0), x.size(1), x.size(2),
                                      x.size(3) * x.size(4), contextual_temperature,
                                      spatial_temperature, device.stream()),
               "dual_attention");
  return y;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x,
                                            const Tensor& contextual, const Tensor& spatial,
                                            double contextual_temperature,
                                            double spatial_temperature) {
  check_dual(x, contextual, spatial, contextual_temperature, spatial_temperature);
  check_like_x(x, grad, "grad");
  check_images(x);
  const int x_type = stored_type(x, "x");
  const OnDeviceOf device(x);
  const Logits logits = read_logits(x, contextual, spatial);
  const Tensor grad_read = contiguous_as(grad, x.scalar_type());
  const Tensor x_read = torch::stable::contiguous(x);
  const Tensor dx = torch::stable::empty_like(x_read);
  const Tensor dcontextual = torch::stable::empty_like(logits.contextual);
  const Tensor dspatial = torch::stable::empty_like(logits.spatial);
  check_launch(
      lesionkit_dual_backward(grad_read.const_data_ptr(), x_read.const_data_ptr(),
                              logits.contextual.const_data_ptr(), logits.spatial.const_data_ptr(),
                              dx.mutable_data_ptr(), dcontextual.mutable_data_ptr(),
                              dspatial.mutable_data_ptr(), x_type, logits.type, x.size(0),
                              x.size(1), x.size(2), x.size(3) * x.size(4), contextual_temperature,
                              spatial_temperature, device.stream()),
      "dual_attention_backward");
  return {dx, as_type(dcontextual, contextual), as_type(dspatial, spatial)};
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CUDA, m) {
  m.impl("dual_attention", TORCH_BOX(&forward));
  m.impl("dual_attention_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
