#include "torch/cpu/attention.h"

namespace lesionkit {
namespace {

cpu::DualShape shape_of(const Tensor& x) {
  return {x.size(0), x.size(1), x.size(2), x.size(3) * x.size(4)};
}

Tensor forward(const Tensor& x, const Tensor& contextual, const Tensor& spatial,
               double contextual_temperature, double spatial_temperature) {
  check_dual(x, contextual, spatial, contextual_temperature, spatial_temperature);
  const ScalarType type = common_logits_type(x, contextual, spatial);
  const Tensor contextual_read = contiguous_as(contextual, type);
  const Tensor spatial_read = contiguous_as(spatial, type);
  const Tensor x_read = contiguous_as(x, stored_beside(x, contextual_read));
  const Tensor y = torch::stable::empty_like(x_read);
  const auto shape = shape_of(x);
  for_work_items(x_read, contextual_read, shape.work_items(),
                 [&]<class X, class L>(X, L, int64_t begin, int64_t end) {
                   using namespace cpu;
                   const auto scratch = allocate(shape.forward_scratch_bytes());
                   LESIONKIT_CALL_BEST(dual_forward, input<X>(x_read), input<L>(contextual_read),
                                       input<L>(spatial_read), output<X>(y), shape,
                                       contextual_temperature, spatial_temperature, scratch.get(),
                                       begin, end)
                 });
  return as_type(y, x);
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x,
                                            const Tensor& contextual, const Tensor& spatial,
                                            double contextual_temperature,
                                            double spatial_temperature) {
  check_dual(x, contextual, spatial, contextual_temperature, spatial_temperature);
  check_like_x(x, grad, "grad");
  const ScalarType type = common_logits_type(x, contextual, spatial);
  const Tensor contextual_read = contiguous_as(contextual, type);
  const Tensor spatial_read = contiguous_as(spatial, type);
  const Tensor x_read = contiguous_as(x, stored_beside(x, contextual_read));
  const Tensor grad_read = contiguous_as(grad, x_read.scalar_type());
  const Tensor dx = torch::stable::empty_like(x_read);
  const Tensor dcontextual = torch::stable::empty_like(contextual_read);
  const Tensor dspatial = torch::stable::empty_like(spatial_read);
  const auto shape = shape_of(x);
  for_work_items(x_read, contextual_read, shape.work_items(),
                 [&]<class X, class L>(X, L, int64_t begin, int64_t end) {
                   using namespace cpu;
                   const auto scratch = allocate(shape.backward_scratch_bytes());
                   LESIONKIT_CALL_BEST(dual_backward, input<X>(grad_read), input<X>(x_read),
                                       input<L>(contextual_read), input<L>(spatial_read),
                                       output<X>(dx), output<L>(dcontextual), output<L>(dspatial),
                                       shape, contextual_temperature, spatial_temperature,
                                       scratch.get(), begin, end)
                 });
  return {as_type(dx, x), as_type(dcontextual, contextual), as_type(dspatial, spatial)};
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CPU, m) {
  m.impl("dual_attention", TORCH_BOX(&forward));
  m.impl("dual_attention_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
