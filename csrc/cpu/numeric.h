// 16-bit float storage and its scalar conversions, round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

namespace lesionkit::cpu {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Arithmetic is in float32, or in float64 as soon as one operand is float64.
template <class... Stored>
struct AccumulatorOf {
  using type = float;
};
template <class... Rest>
struct AccumulatorOf<double, Rest...> {
  using type = double;
};
template <class First, class... Rest>
struct AccumulatorOf<First, Rest...> : AccumulatorOf<Rest...> {};
template <class... Stored>
using Accumulator = typename AccumulatorOf<Stored...>::type;

// Unnamed, so that no copy compiled for a larger instruction set can be linked into another one's
// code.
namespace {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float to_float(float value) { return value; }
inline double to_float(double value) { return value; }
inline float to_float(BFloat16 value) {
  return float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}
inline float to_float(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity or NaN
    return float_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  // Shifting into float32's field and multiplying by 2^112 rebiases normals and subnormals alike.
  const float rebiased = float_from_bits(magnitude << 13) * 0x1p112f;
  return float_from_bits(sign | float_bits(rebiased));
}

template <class Stored>
Stored from_float(Accumulator<Stored> value);

template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline double from_float<double>(double value) {
  return value;
}
template <>
inline BFloat16 from_float<BFloat16>(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fc0u};  // rounding could turn a NaN to infinity
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
template <>
inline Half from_float<Half>(float value) {
  const uint32_t bits = float_bits(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to 65536
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the result, rounded, in the low mantissa bits.
    const uint32_t shifted = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    return {static_cast<uint16_t>(sign | shifted)};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace
}  // namespace lesionkit::cpu
