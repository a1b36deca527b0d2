#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace lesionkit::cpu {
namespace {

Isa supported() {
#if LESIONKIT_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return Isa::avx2;
  }
#endif
  return Isa::baseline;
}

Isa choose() {
  const Isa best = supported();
  const char* asked = std::getenv("LESIONKIT_CPU_ISA");
  if (asked == nullptr) return best;
  Isa wanted = best;
  if (std::strcmp(asked, "baseline") == 0) wanted = Isa::baseline;
  if (std::strcmp(asked, "avx2") == 0) wanted = Isa::avx2;
  return wanted < best ? wanted : best;
}

}  // namespace

Isa best_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace lesionkit::cpu
