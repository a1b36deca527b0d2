// The bins of a region of interest: which cells of the feature map they cover.
//
// One source for the CPU library, nvcc and NVRTC, so that every backend pools the same cells. Each
// operation rounds once: a fused multiply-add moves edges that fall on a whole number. Host code is
// compiled with -ffp-contract=off for that; device code asks for it here.
#pragma once

#if defined(__CUDACC__)
#define LESIONKIT_HD __host__ __device__
#else
#include <cmath>
#define LESIONKIT_HD
#endif

namespace lesionkit::psroi {

enum class Convention { rfcn, torchvision };

// A half-open range of cells on one axis.
struct Cells {
  int begin;
  int end;
};

// One axis of a roi, in cells. Not usable: a coordinate is NaN or infinite, or becomes so.
template <class Real>
struct Span {
  Real start;
  Real bin;
  bool usable;
};

// Unnamed, so that every object file keeps the code of its own instruction set.
namespace {

LESIONKIT_HD inline float multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
LESIONKIT_HD inline double multiply(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

LESIONKIT_HD inline float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}
LESIONKIT_HD inline double add(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(a, b);
#else
  return a + b;
#endif
}

LESIONKIT_HD inline float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}
LESIONKIT_HD inline double divide(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __ddiv_rn(a, b);
#else
  return a / b;
#endif
}

LESIONKIT_HD inline float round_half_away(float value) { return ::roundf(value); }
LESIONKIT_HD inline double round_half_away(double value) { return ::round(value); }
LESIONKIT_HD inline float round_down(float value) { return ::floorf(value); }
LESIONKIT_HD inline double round_down(double value) { return ::floor(value); }
LESIONKIT_HD inline float round_up(float value) { return ::ceilf(value); }
LESIONKIT_HD inline double round_up(double value) { return ::ceil(value); }

// False for NaN and infinities, whose difference with themselves is NaN.
template <class Real>
LESIONKIT_HD inline bool is_finite(Real value) {
  return value - value == 0;
}

// Compared before the cast: huge values do not fit an int. NaN gives 0.
template <class Real>
LESIONKIT_HD inline int clamp_to_int(Real value, int highest) {
  if (!(value > 0)) return 0;
  return value < static_cast<Real>(highest) ? static_cast<int>(value) : highest;
}

// The sample a roi belongs to, truncated to a whole number; -1 if it is none of 0..batch-1.
template <class Real>
LESIONKIT_HD inline long long sample_of(Real index, long long batch) {
  if (!(index >= 0 && index < static_cast<Real>(batch))) return -1;
  return static_cast<long long>(index);
}

template <class Real>
LESIONKIT_HD inline Span<Real> span_of(Real first, Real last, Real scale, int bins,
                                       Convention convention) {
  Real start, end, least;
  if (convention == Convention::rfcn) {
    start = multiply(round_half_away(first), scale);
    end = multiply(add(round_half_away(last), static_cast<Real>(1)), scale);
    least = static_cast<Real>(0.1);
  } else {
    start = round_half_away(multiply(first, scale));
    end = round_half_away(multiply(last, scale));
    least = static_cast<Real>(1);
  }
  Real width = add(end, -start);
  if (width < least) width = least;
  return {start, divide(width, static_cast<Real>(bins)),
          is_finite(start) && is_finite(end) && is_finite(width)};
}

// The cells of bin `index` on a map of `size` cells; begin >= end when it is empty.
template <class Real>
LESIONKIT_HD inline Cells cells_of(Span<Real> span, int index, int size, Convention convention) {
  const Real low = multiply(static_cast<Real>(index), span.bin);
  const Real high = multiply(static_cast<Real>(index + 1), span.bin);
  if (convention == Convention::rfcn) {
    return {clamp_to_int(round_down(add(low, span.start)), size),
            clamp_to_int(round_up(add(high, span.start)), size)};
  }
  const int highest = size > 0 ? size - 1 : 0;  // torchvision never pools the last row and column
  return {clamp_to_int(add(round_down(low), span.start), highest),
          clamp_to_int(add(round_up(high), span.start), highest)};
}

}  // namespace
}  // namespace lesionkit::psroi
