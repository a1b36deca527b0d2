// Vectors of the accumulator type (float or double) for one instruction set, on the compilers'
// vector extension: the same code is SSE2, AVX2, AVX-512 or NEON.
//
// Included inside csrc/cpu/<op>.cpp only; everything lives in the namespace of the instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "numeric.h"
#include "temperature.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class Acc>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Mask __attribute__((vector_size(kVectorBytes)));
  static constexpr int mantissa = 23;
  static constexpr int lowest_exponent = -126;
};
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Mask __attribute__((vector_size(kVectorBytes)));
  static constexpr int mantissa = 52;
  static constexpr int lowest_exponent = -1022;
};

template <class Acc>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Acc));
template <class Acc>
using Vector = typename Lanes<Acc>::Vector;
template <class Acc>
using Mask = typename Lanes<Acc>::Mask;

template <class Acc>
inline Vector<Acc> broadcast(Acc value) {
  return value - Vector<Acc>{};
}

template <class Acc>
inline Vector<Acc> load_vector(const Acc* source) {
  Vector<Acc> value;
  std::memcpy(&value, source, sizeof value);
  return value;
}
inline Vector<float> load_vector(const BFloat16* source) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  Narrow narrow;
  std::memcpy(&narrow, source, sizeof narrow);
  const Wide wide = __builtin_convertvector(narrow, Wide) << 16;
  return reinterpret_cast<Vector<float>>(wide);
}
inline Vector<float> load_vector(const Half* source) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
#else
  Vector<float> value;
  for (int lane = 0; lane < kLanes<float>; ++lane) value[lane] = to_float(source[lane]);
  return value;
#endif
}

// A vector as it stands in memory; the first argument only tells the stored type.
inline Vector<float> pack(const float*, Vector<float> value) { return value; }
inline Vector<double> pack(const double*, Vector<double> value) { return value; }
inline auto pack(const BFloat16*, Vector<float> value) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  const Wide bits = reinterpret_cast<Wide>(value);
  const Wide rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Wide not_a_number = Wide{} + 0x7fc0u;  // rounding could turn a NaN into an infinity
  const Wide chosen = value == value ? rounded : not_a_number;
  return __builtin_convertvector(chosen, Narrow);
}
inline auto pack(const Half*, Vector<float> value) {
#if defined(__AVX512F__)
  return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
#else
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  Narrow narrow;
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    narrow[lane] = from_float<Half>(value[lane]).bits;
  }
  return narrow;
#endif
}

template <class Stored, class Acc>
inline void store_vector(Stored* target, Acc value) {
  const auto packed = pack(target, value);
  std::memcpy(target, &packed, sizeof packed);
}

// The last, incomplete vector of a row: `count` lanes of memory, the rest filled.
template <class Acc, class Stored>
inline Vector<Acc> load(const Stored* source, int64_t count, Acc fill = 0) {
  if (count >= kLanes<Acc>) return load_vector(source);
  Stored lanes[kLanes<Acc>] = {};
  std::memcpy(lanes, source, sizeof(Stored) * count);
  Vector<Acc> value = load_vector(lanes);
  for (int64_t lane = count; lane < kLanes<Acc>; ++lane) value[lane] = fill;
  return value;
}
template <class Acc, class Stored>
inline void store(Stored* target, Vector<Acc> value, int64_t count) {
  if (count >= kLanes<Acc>) return store_vector(target, value);
  Stored lanes[kLanes<Acc>];
  store_vector(lanes, value);
  std::memcpy(target, lanes, sizeof(Stored) * count);
}

// Calls body(i, lanes left) for each vector of a row. Whole vectors have a loop of their own, free of
// the last one's special cases: those would push its constants out of the registers.
#define LESIONKIT_INLINE __attribute__((always_inline))
template <class Acc, class Body>
inline void for_each_vector(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes<Acc> <= size; i += kLanes<Acc>) body(i, kLanes<Acc>);
  if (i < size) body(i, size - i);
}

// Writes a result past the caches. An ordinary store first reads the line that it overwrites: a
// forward pass would move four streams instead of three, a backward pass seven instead of five.
template <class Stored>
class Output {
 public:
  using Acc = Accumulator<Stored>;

  // `row` is the distance between the first elements of rows that are written from their start.
  Output(Stored* base, int64_t row, bool past_caches) : base_(base) {
    constexpr int64_t bytes = kLanes<Acc> * sizeof(Stored);
    const bool aligned = reinterpret_cast<uintptr_t>(base) % bytes == 0 &&
                         row * static_cast<int64_t>(sizeof(Stored)) % bytes == 0;
    streaming_ = past_caches && aligned;
  }
  ~Output() {
#if defined(__SSE2__)
    if (streaming_) _mm_sfence();  // streamed lines are ordered with nothing else
#endif
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  template <class Value>
  void store(int64_t index, Value value, int64_t count) const {
    Stored* target = base_ + index;
#if defined(__SSE2__)
    if (streaming_ && count >= kLanes<Acc>) {
      const auto packed = pack(target, value);
      if constexpr (sizeof packed == 64) {
#if defined(__AVX512F__)
        return _mm512_stream_si512(reinterpret_cast<__m512i*>(target), (__m512i)packed);
#endif
      } else if constexpr (sizeof packed == 32) {
#if defined(__AVX2__)
        return _mm256_stream_si256(reinterpret_cast<__m256i*>(target), (__m256i)packed);
#endif
      } else if constexpr (sizeof packed == 16) {
        return _mm_stream_si128(reinterpret_cast<__m128i*>(target), (__m128i)packed);
      }
    }
#endif
    ::lesionkit::cpu::LESIONKIT_ISA::store<Acc>(target, value, count);
  }

 private:
  Stored* base_;
  bool streaming_;
};

template <class Acc>
inline Vector<Acc> clear_past_end(Vector<Acc> value, int64_t count) {
  for (int64_t lane = count; lane < kLanes<Acc>; ++lane) value[lane] = 0;
  return value;
}

// The larger of both, NaN if either is NaN (as torch.amax has it). Starting from -inf, the first
// argument becomes NaN only by having met one.
template <class Acc>
inline Vector<Acc> maximum(Vector<Acc> running, Vector<Acc> next) {
  const Mask<Acc> keep = (running >= next) | (running != running);
  return keep ? running : next;
}

// A maximum that gives the whole group NaN weights wherever softmax would: NaN or an infinity.
template <class Acc>
inline Vector<Acc> usable_maximum(Vector<Acc> top) {
  return top - top == 0 ? top : top - top;
}

template <class Acc>
inline Acc horizontal_sum(Vector<Acc> value) {
  Acc total = 0;
  for (int lane = 0; lane < kLanes<Acc>; ++lane) total += value[lane];
  return total;
}
template <class Acc>
inline Acc horizontal_maximum(Vector<Acc> value) {
  Acc top = value[0];
  for (int lane = 1; lane < kLanes<Acc>; ++lane) {
    if (!(top >= value[lane]) && top == top) top = value[lane];
  }
  return top;
}

// 2^f on [-1/2, 1/2] as a polynomial whose constant term is exactly 1.
template <class Acc>
struct Exp2Polynomial;
template <>
struct Exp2Polynomial<float> {
  static constexpr int degree = 5;  // minimax, relative error 9.2e-8
  static constexpr float term[] = {1,           0x1.62e42ap-1f, 0x1.ebf9bcp-3f,
                                   0x1.c6b752p-5f, 0x1.3cea88p-7f, 0x1.5bba14p-10f};
};
template <>
struct Exp2Polynomial<double> {
  static constexpr int degree = 13;  // Taylor, relative error (ln 2 / 2)^14 / 14! < 2^-57
  static constexpr double term[] = {1, 0x1.62e42fefa39efp-1,
                                    0x1.ebfbdff82c58fp-3, 0x1.c6b08d704a0c0p-5,
                                    0x1.3b2ab6fba4e77p-7, 0x1.5d87fe78a6731p-10,
                                    0x1.430912f86c787p-13, 0x1.ffcbfc588b0c7p-17,
                                    0x1.62c0223a5c824p-20, 0x1.b5253d395e7c4p-24,
                                    0x1.e4cf5158b8ecap-28, 0x1.e8cac7351bb25p-32,
                                    0x1.c3bd650fc2986p-36, 0x1.816193166d0f9p-40};
};

// 2^t for t <= 0, within 2 units in the last place; 0 where it would be subnormal or t is -inf;
// exactly 1 at 0; NaN for NaN.
template <class Acc>
inline Vector<Acc> exp2_of_nonpositive(Vector<Acc> t) {
  using Integer = Mask<Acc>;
  using Polynomial = Exp2Polynomial<Acc>;
  // Adding 1.5 * 2^mantissa rounds t to an integer, which then stands in the low bits.
  const Acc shift = static_cast<Acc>(int64_t{3} << (Lanes<Acc>::mantissa - 1));
  const Vector<Acc> shifted = t + shift;
  const Vector<Acc> fraction = t - (shifted - shift);
  Vector<Acc> power = broadcast<Acc>(Polynomial::term[Polynomial::degree]);
  for (int k = Polynomial::degree - 1; k >= 0; --k) power = power * fraction + Polynomial::term[k];
  const Integer exponent = reinterpret_cast<Integer>(shifted) << Lanes<Acc>::mantissa;
  const Vector<Acc> two_to_integer =
      reinterpret_cast<Vector<Acc>>(exponent + reinterpret_cast<Integer>(broadcast<Acc>(1)));
  // A product rather than a sum of bits, so that a NaN stays one.
  return t < static_cast<Acc>(Lanes<Acc>::lowest_exponent) ? Vector<Acc>{} : power * two_to_integer;
}

}  // namespace
}  // namespace lesionkit::cpu::LESIONKIT_ISA
