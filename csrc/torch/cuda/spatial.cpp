#include "torch/attention.h"
#include "torch/cuda/common.h"

namespace lesionkit {
namespace {

int64_t planes(const Tensor& x) { return x.size(0) * x.size(1) * x.size(2); }
int64_t cells(const Tensor& x) { return x.size(3) * x.size(4); }

Tensor forward(const Tensor& x, const Tensor& logits, double temperature) {
  check_single(x, logits, temperature);
  const int x_type = stored_type(x, "x"), logits_type = stored_type(logits, "logits");
  const OnDeviceOf device(x);
  const Tensor x_read = torch::stable::contiguous(x);
  const Tensor logits_read = torch::stable::contiguous(logits);
  const Tensor y = torch::stable::empty_like(x_read);
  check_launch(lesionkit_spatial_forward(x_read.const_data_ptr(), logits_read.const_data_ptr(),
                                         y.mutable_data_ptr(), x_type, logits_type, planes(x),
                                         cells(x), temperature, device.stream()),
               "spatial_attention");
  return y;
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& logits,
                                    double temperature) {
  check_single(x, logits, temperature);
  check_like_x(x, grad, "grad");
  const int x_type = stored_type(x, "x"), logits_type = stored_type(logits, "logits");
  const OnDeviceOf device(x);
  const Tensor grad_read = contiguous_as(grad, x.scalar_type());
  const Tensor x_read = torch::stable::contiguous(x);
  const Tensor logits_read = torch::stable::contiguous(logits);
  const Tensor dx = torch::stable::empty_like(x_read);
  const Tensor dlogits = torch::stable::empty_like(logits_read);
  check_launch(lesionkit_spatial_backward(grad_read.const_data_ptr(), x_read.const_data_ptr(),
                                          logits_read.const_data_ptr(), dx.mutable_data_ptr(),
                                          dlogits.mutable_data_ptr(), x_type, logits_type,
                                          planes(x), cells(x), temperature, device.stream()),
               "spatial_attention_backward");
  return {dx, dlogits};
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CUDA, m) {
  m.impl("spatial_attention", TORCH_BOX(&forward));
  m.impl("spatial_attention_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
