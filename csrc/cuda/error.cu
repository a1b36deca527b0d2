#include <cuda_runtime.h>

#include "cuda/launch.h"

const char* lesionkit_error_string(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
