// Everything that the kernels ask of the device itself.
//
// Kernels use these functions, the built-in thread and block indices, __shared__ and
// __syncthreads(), and nothing else that is CUDA's. No header is included: NVRTC, which has none,
// compiles the same source.
#pragma once

namespace lesionkit::device {

using Index = long long;  // element offsets; tensors may pass 2^31 elements

constexpr int kWarp = 32;
constexpr int kVectorBytes = 16;  // the widest access that every device has

// Stored types beside float. Arithmetic is in float.
struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

// N neighbouring numbers as they stand in memory. Kept in words: unpacked 16-bit numbers would take
// a register each.
template <class T, int N>
struct Pack {
  static constexpr int bytes = N * static_cast<int>(sizeof(T));
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16);
  unsigned word[(bytes + 3) / 4];
};

__device__ __forceinline__ float float_from_bits(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ float negative_infinity() { return float_from_bits(0xff800000u); }

// Reads memory that no thread writes while the kernel runs. `source` is aligned to the whole pack.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* source) {
  Pack<T, N> pack;
  if constexpr (pack.bytes == 16) {
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(pack.word[0]), "=r"(pack.word[1]), "=r"(pack.word[2]), "=r"(pack.word[3])
        : "l"(source));
  } else if constexpr (pack.bytes == 8) {
    asm("ld.global.nc.v2.u32 {%0, %1}, [%2];"
        : "=r"(pack.word[0]), "=r"(pack.word[1])
        : "l"(source));
  } else if constexpr (pack.bytes == 4) {
    asm("ld.global.nc.u32 %0, [%1];" : "=r"(pack.word[0]) : "l"(source));
  } else {
    asm("ld.global.nc.u16 %0, [%1];" : "=r"(pack.word[0]) : "l"(source));
  }
  return pack;
}

// The same for what this multiprocessor reads once: it takes no room in the first-level cache.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_once(const T* source) {
  Pack<T, N> pack;
  if constexpr (pack.bytes == 16) {
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(pack.word[0]), "=r"(pack.word[1]), "=r"(pack.word[2]), "=r"(pack.word[3])
        : "l"(source));
  } else if constexpr (pack.bytes == 8) {
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
        : "=r"(pack.word[0]), "=r"(pack.word[1])
        : "l"(source));
  } else {
    pack = load<N>(source);  // narrow neighbours share a sector: the cache joins them
  }
  return pack;
}

template <class T, int N>
__device__ __forceinline__ void store(T* target, const Pack<T, N>& pack) {
  // Not pack.bytes: a reference is no constant to NVRTC.
  constexpr int bytes = Pack<T, N>::bytes;
  if constexpr (bytes == 16) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(target), "r"(pack.word[0]),
                 "r"(pack.word[1]), "r"(pack.word[2]), "r"(pack.word[3])
                 : "memory");
  } else if constexpr (bytes == 8) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(target), "r"(pack.word[0]),
                 "r"(pack.word[1])
                 : "memory");
  } else if constexpr (bytes == 4) {
    asm volatile("st.global.u32 [%0], %1;" ::"l"(target), "r"(pack.word[0]) : "memory");
  } else {
    asm volatile("st.global.u16 [%0], %1;" ::"l"(target), "r"(pack.word[0]) : "memory");
  }
}

__device__ __forceinline__ void unpack_pair(const float*, unsigned, float&, float&) = delete;
__device__ __forceinline__ void unpack_pair(const Half*, unsigned word, float& low, float& high) {
  asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %2;\n\tcvt.f32.f16 %0, l;\n\tcvt.f32.f16 %1, h;\n\t}"
      : "=f"(low), "=f"(high)
      : "r"(word));
}
__device__ __forceinline__ void unpack_pair(const BFloat16*, unsigned word, float& low,
                                            float& high) {
  low = __uint_as_float(word << 16);
  high = __uint_as_float(word & 0xffff0000u);
}

// Round to nearest even; NaN stays NaN.
__device__ __forceinline__ unsigned pack_pair(const float*, float, float) = delete;
__device__ __forceinline__ unsigned pack_pair(const Half*, float low, float high) {
  unsigned word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
__device__ __forceinline__ unsigned pack_pair(const BFloat16*, float low, float high) {
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

template <class T, int N>
__device__ __forceinline__ void unpack(const Pack<T, N>& pack, float (&lane)[N]) {
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) lane[i] = __uint_as_float(pack.word[i]);
  } else if constexpr (N == 1) {
    float none;
    unpack_pair(static_cast<const T*>(nullptr), pack.word[0], lane[0], none);
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      unpack_pair(static_cast<const T*>(nullptr), pack.word[i / 2], lane[i], lane[i + 1]);
    }
  }
}

template <class T, int N>
__device__ __forceinline__ Pack<T, N> pack(const float (&lane)[N]) {
  Pack<T, N> result;
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) result.word[i] = __float_as_uint(lane[i]);
  } else if constexpr (N == 1) {
    result.word[0] = pack_pair(static_cast<const T*>(nullptr), lane[0], 0.0f);
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      result.word[i / 2] = pack_pair(static_cast<const T*>(nullptr), lane[i], lane[i + 1]);
    }
  }
  return result;
}

// One number.
template <class T>
__device__ __forceinline__ float read(const T* source) {
  float lane[1];
  unpack(load<1>(source), lane);
  return lane[0];
}
template <class T>
__device__ __forceinline__ void write(T* target, float value) {
  const float lane[1] = {value};
  store(target, pack<T>(lane));
}

// 2^t within 2 units in the last place; 0 where that is subnormal or t is -inf, exactly 1 at 0.
__device__ __forceinline__ float power_of_two(float t) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(t));
  return power;
}

// 1 / number within 1 unit in the last place; exact for powers of two.
__device__ __forceinline__ float reciprocal(float number) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(number));
  return inverse;
}

// NaN if either is NaN, as torch.amax has it.
__device__ __forceinline__ float maximum(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// The value of the lane whose number differs in the bits of `mask`; all lanes of the warp call it.
__device__ __forceinline__ float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The value of lane `lane`; all lanes of the warp call it.
template <class T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// Bit l tells whether it holds in lane l; all lanes of the warp call it.
__device__ __forceinline__ unsigned ballot(bool holds) { return __ballot_sync(0xffffffffu, holds); }

// The number of the lowest bit that is set; at least one is.
__device__ __forceinline__ int lowest_bit(unsigned bits) { return __ffs(bits) - 1; }

// Orders the shared memory accesses of a warp's lanes.
__device__ __forceinline__ void sync_warp() { __syncwarp(); }

// The shared memory whose size the launch gives, aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ uint4 lesionkit_dynamic_shared[];
  return reinterpret_cast<T*>(lesionkit_dynamic_shared);
}

}  // namespace lesionkit::device
