#include "torch/cpu/attention.h"

namespace lesionkit {
namespace {

cpu::ContextualShape shape_of(const Tensor& x) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3) * x.size(4)};
}

Tensor forward(const Tensor& x, const Tensor& logits, double temperature) {
  check_single(x, logits, temperature);
  const Tensor x_read = contiguous_as(x, stored_beside(x, logits));
  const Tensor logits_read = contiguous_as(logits, stored_beside(logits, x));
  const Tensor y = torch::stable::empty_like(x_read);
  const auto shape = shape_of(x);
  for_work_items(x_read, logits_read, shape.work_items(),
                 [&]<class X, class L>(X, L, int64_t begin, int64_t end) {
                   using namespace cpu;
                   LESIONKIT_CALL_BEST(contextual_forward, input<X>(x_read), input<L>(logits_read),
                                       output<X>(y), shape, temperature, begin, end)
                 });
  return as_type(y, x);
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& logits,
                                    double temperature) {
  check_single(x, logits, temperature);
  check_like_x(x, grad, "grad");
  const Tensor x_read = contiguous_as(x, stored_beside(x, logits));
  const Tensor logits_read = contiguous_as(logits, stored_beside(logits, x));
  const Tensor grad_read = contiguous_as(grad, x_read.scalar_type());
  const Tensor dx = torch::stable::empty_like(x_read);
  const Tensor dlogits = torch::stable::empty_like(logits_read);
  const auto shape = shape_of(x);
  for_work_items(x_read, logits_read, shape.work_items(),
                 [&]<class X, class L>(X, L, int64_t begin, int64_t end) {
                   using namespace cpu;
                   const auto scratch = allocate(shape.backward_scratch_bytes());
                   LESIONKIT_CALL_BEST(contextual_backward, input<X>(grad_read), input<X>(x_read),
                                       input<L>(logits_read), output<X>(dx), output<L>(dlogits),
                                       shape, temperature, scratch.get(), begin, end)
                 });
  return {as_type(dx, x), as_type(dlogits, logits)};
}

STABLE_TORCH_LIBRARY_IMPL(lesionkit, CPU, m) {
  m.impl("contextual_attention", TORCH_BOX(&forward));
  m.impl("contextual_attention_backward", TORCH_BOX(&backward));
}

}  // namespace
}  // namespace lesionkit
