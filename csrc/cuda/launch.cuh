// How kernels are started: the only place that speaks to the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include "cuda/grid.h"

namespace lesionkit::cuda {

// Starts `kernel` with `arguments`, converted to its parameters' types. Returns a cudaError_t.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), Grid grid, int threads, int shared_bytes, void* stream,
           Arguments... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  constexpr int kWithoutAsking = 48 << 10;
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > kWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  return [&](Parameters... converted) {
    void* addresses[] = {&converted...};
    return cudaLaunchKernel(function, dim3(grid.x, grid.y, grid.z), dim3(threads), addresses,
                            shared_bytes, static_cast<cudaStream_t>(stream));
  }(static_cast<Parameters>(arguments)...);
}

}  // namespace lesionkit::cuda
