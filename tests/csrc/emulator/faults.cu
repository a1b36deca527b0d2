// Kernels with a fault each, for the emulator's own test.
#include "cuda/launch.cuh"

namespace {

using namespace lesionkit;

// Each thread reads its neighbour's number, which may not be there yet.
__global__ void no_barrier(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = numbers[threadIdx.x];
  numbers[threadIdx.x] = shared[(threadIdx.x + 1) % 64];
}

__global__ void with_barrier(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = numbers[threadIdx.x];
  __syncthreads();
  numbers[threadIdx.x] = shared[(threadIdx.x + 1) % 64];
}

__device__ unsigned next_lane() { return threadIdx.x / 32 * 32 + (threadIdx.x + 1) % 32; }

__global__ void with_warp_barriers(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = numbers[threadIdx.x];
  device::sync_warp();
  numbers[threadIdx.x] = shared[next_lane()];
  device::sync_warp();
  shared[threadIdx.x] = -1;
}

__global__ void read_too_early(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = numbers[threadIdx.x];
  numbers[threadIdx.x] = shared[next_lane()];
}

__global__ void written_too_early(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = numbers[threadIdx.x];
  device::sync_warp();
  numbers[threadIdx.x] = shared[next_lane()];
  shared[threadIdx.x] = -1;
}

__global__ void one_exits(float* numbers) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  numbers[threadIdx.x] = 1;
}

__global__ void two_barriers(float* numbers) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  numbers[threadIdx.x] = 1;
}

__global__ void half_a_warp(float* numbers) {
  if (threadIdx.x % 32 < 16) numbers[threadIdx.x] = device::shuffle_xor(numbers[threadIdx.x], 1);
}

// What the last block left behind, or what was there before the first.
__global__ void not_initialised(float* numbers) {
  __shared__ float shared[64];
  numbers[threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 1;
}

__global__ void not_initialised_dynamic(float* numbers) {
  float* shared = device::dynamic_shared<float>();
  numbers[threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 1;
}

int run(void (*kernel)(float*), unsigned blocks, int threads, float* numbers, void* stream) {
  return cuda::launch(kernel, cuda::Grid{blocks}, threads, 256, stream, numbers);
}

}  // namespace

extern "C" {
#define FAULT(kernel)                                           \
  int lesionkit_##kernel(float* numbers, void* stream) {        \
    return run(kernel, 2, 64, numbers, stream);                 \
  }
FAULT(with_barrier)
FAULT(no_barrier)
FAULT(with_warp_barriers)
FAULT(read_too_early)
FAULT(written_too_early)
FAULT(one_exits)
FAULT(two_barriers)
FAULT(half_a_warp)
FAULT(not_initialised)
FAULT(not_initialised_dynamic)
int lesionkit_too_many_threads(float* numbers, void* stream) {
  return run(with_barrier, 1, 2048, numbers, stream);
}
}
