// kernels/common/device.cuh for g++: found in its place, it makes the kernels run on fibers.
//
// Accesses go through types of the access's own size and alignment, and __shared__ arrays are real
// arrays, so that the sanitizers see what a GPU's memcheck would.
#pragma once

#include <cmath>
#include <limits>

#include "cpu/numeric.h"
#include "fibers.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ EMULATOR_SHARED
#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_SHARED static
#else
#define EMULATOR_SHARED thread_local
#endif

inline void __syncthreads(emulator::Place place = emulator::Place::current()) {
  emulator::wait(emulator::State::at_block_barrier, place);
}

namespace lesionkit::device {

using Index = long long;
using emulator::Place;

constexpr int kWarp = emulator::kWarp;
constexpr int kVectorBytes = 16;

using cpu::BFloat16;
using cpu::Half;

template <class T, int N>
struct Pack {
  static constexpr int bytes = N * static_cast<int>(sizeof(T));
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16);
  struct alignas(bytes) Whole {
    T lane[N];
  };
  Whole whole;
};

inline float float_from_bits(unsigned bits) { return cpu::float_from_bits(bits); }
inline float negative_infinity() { return -std::numeric_limits<float>::infinity(); }

template <int N, class T>
Pack<T, N> load(const T* source) {
  return {*reinterpret_cast<const typename Pack<T, N>::Whole*>(source)};
}
template <int N, class T>
Pack<T, N> load_once(const T* source) {
  return load<N>(source);
}
template <class T, int N>
void store(T* target, const Pack<T, N>& pack) {
  ++emulator::stores[pack.bytes];
  *reinterpret_cast<typename Pack<T, N>::Whole*>(target) = pack.whole;
}
template <class T, int N>
void unpack(const Pack<T, N>& pack, float (&lane)[N]) {
  for (int i = 0; i < N; ++i) lane[i] = cpu::to_float(pack.whole.lane[i]);
}
template <class T, int N>
Pack<T, N> pack(const float (&lane)[N]) {
  Pack<T, N> result;
  for (int i = 0; i < N; ++i) result.whole.lane[i] = cpu::from_float<T>(lane[i]);
  return result;
}
template <class T>
float read(const T* source) {
  return cpu::to_float(*source);
}
template <class T>
void write(T* target, float value) {
  ++emulator::stores[sizeof(T)];
  *target = cpu::from_float<T>(value);
}

// As ex2.approx.ftz: a subnormal argument counts as 0, a subnormal result becomes 0.
inline float power_of_two(float t) {
  const float power = std::exp2(std::fpclassify(t) == FP_SUBNORMAL ? 0.0f : t);
  return power < std::numeric_limits<float>::min() ? 0.0f : power;
}

inline float maximum(float a, float b) {
  return a != a || b != b ? std::numeric_limits<float>::quiet_NaN() : a < b ? b : a;
}

inline float reciprocal(float value) { return 1 / value; }

template <class T>
T shuffle(T value, int lane, Place place = Place::current()) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&emulator::self().given, &value, sizeof value);
  emulator::wait(emulator::State::at_warp_barrier, place);
  const unsigned first = emulator::current / kWarp * kWarp;
  std::memcpy(&value, &emulator::fibers[first + lane % kWarp]->seen, sizeof value);
  return value;
}
inline float shuffle_xor(float value, int mask, Place place = Place::current()) {
  return device::shuffle(value, static_cast<int>(emulator::current % kWarp) ^ mask, place);
}
inline unsigned ballot(bool holds, Place place = Place::current()) {
  device::shuffle(unsigned{holds}, 0, place);
  const unsigned first = emulator::current / kWarp * kWarp;
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    lanes |= static_cast<unsigned>(emulator::fibers[first + lane]->seen & 1) << lane;
  }
  return lanes;
}
inline int lowest_bit(unsigned bits) { return __builtin_ctz(bits); }
inline void sync_warp(Place place = Place::current()) { device::shuffle(0, 0, place); }

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(emulator::dynamic_shared.data());
}

}  // namespace lesionkit::device
