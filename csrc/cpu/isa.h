// Which instruction set the CPU kernels run with, chosen once per process.
//
// Every csrc/cpu/<op>.cpp is compiled once per instruction set with LESIONKIT_ISA naming the
// namespace, so one library holds all variants and a wheel runs on any machine of its platform.
#pragma once

#if defined(__x86_64__) && !defined(LESIONKIT_BASELINE_ONLY)
#define LESIONKIT_X86 1
#else
#define LESIONKIT_X86 0
#endif

namespace lesionkit::cpu {

enum class Isa { baseline, avx2, avx512 };

// The best set that this processor has; the environment variable LESIONKIT_CPU_ISA (baseline, avx2
// or avx512) lowers it, for tests and for comparing timings. Any other value of it is an exception.
Isa best_isa();

}  // namespace lesionkit::cpu

// Declares the same functions in the namespace of every instruction set.
#if LESIONKIT_X86
#define LESIONKIT_FOR_EACH_ISA(...) \
  namespace baseline {              \
  __VA_ARGS__                       \
  }                                 \
  namespace avx2 {                  \
  __VA_ARGS__                       \
  }                                 \
  namespace avx512 {                \
  __VA_ARGS__                       \
  }
// Calls `function` of the chosen instruction set; to be used inside namespace lesionkit::cpu.
#define LESIONKIT_CALL_BEST(function, ...)            \
  switch (::lesionkit::cpu::best_isa()) {             \
    case ::lesionkit::cpu::Isa::avx512:               \
      ::lesionkit::cpu::avx512::function(__VA_ARGS__); \
      break;                                          \
    case ::lesionkit::cpu::Isa::avx2:                 \
      ::lesionkit::cpu::avx2::function(__VA_ARGS__);  \
      break;                                          \
    default:                                          \
      ::lesionkit::cpu::baseline::function(__VA_ARGS__); \
  }
#else
#define LESIONKIT_FOR_EACH_ISA(...) \
  namespace baseline {              \
  __VA_ARGS__                       \
  }
#define LESIONKIT_CALL_BEST(function, ...) ::lesionkit::cpu::baseline::function(__VA_ARGS__);
#endif
