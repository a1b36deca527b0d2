#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

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

struct Name {
  const char* name;
  Isa isa;
};
constexpr Name kNames[] = {
    {"baseline", Isa::baseline}, {"avx2", Isa::avx2}, {"avx512", Isa::avx512}};

Isa choose() {
  const Isa best = supported();
  const char* asked = std::getenv("LESIONKIT_CPU_ISA");
  if (asked == nullptr) return best;
  for (const auto [name, wanted] : kNames) {
    if (std::strcmp(asked, name) == 0) return wanted < best ? wanted : best;
  }
  throw std::runtime_error(std::string("LESIONKIT_CPU_ISA must be baseline, avx2 or avx512, got \"") +
                           asked + "\"; unset it for the best that this processor has");
}

}  // namespace

Isa best_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace lesionkit::cpu
