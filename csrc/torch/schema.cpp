// The schemas of all ops, in the library that is always there: the CPU and CUDA implementations
// register against them, and so does Python (fake, autograd, vmap).
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"

namespace {

std::string cpu_instruction_set() {
  switch (lesionkit::cpu::best_isa()) {
    case lesionkit::cpu::Isa::avx512:
      return "avx512";
    case lesionkit::cpu::Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace

STABLE_TORCH_LIBRARY(lesionkit, m) {
  m.def("contextual_attention(Tensor x, Tensor logits, float temperature) -> Tensor");
  m.def(
      "contextual_attention_backward(Tensor grad, Tensor x, Tensor logits, float temperature)"
      " -> (Tensor, Tensor)");
  m.def("spatial_attention(Tensor x, Tensor logits, float temperature) -> Tensor");
  m.def(
      "spatial_attention_backward(Tensor grad, Tensor x, Tensor logits, float temperature)"
      " -> (Tensor, Tensor)");
  m.def(
      "dual_attention(Tensor x, Tensor contextual_logits, Tensor spatial_logits,"
      " float contextual_temperature, float spatial_temperature) -> Tensor");
  m.def(
      "dual_attention_backward(Tensor grad, Tensor x, Tensor contextual_logits,"
      " Tensor spatial_logits, float contextual_temperature, float spatial_temperature)"
      " -> (Tensor, Tensor, Tensor)");
  m.def(
      "ps_roi_pool(Tensor features, Tensor rois, int output_size, float spatial_scale,"
      " str convention) -> Tensor");
  m.def(
      "ps_roi_pool_backward(Tensor grad, Tensor rois, SymInt batch, SymInt height, SymInt width,"
      " float spatial_scale, str convention) -> Tensor");
  m.def("cpu_instruction_set() -> str");
}

// No tensor tells the dispatcher a device.
STABLE_TORCH_LIBRARY_IMPL(lesionkit, CompositeExplicitAutograd, m) {
  m.impl("cpu_instruction_set", TORCH_BOX(&cpu_instruction_set));
}
