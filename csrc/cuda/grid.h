// Launch geometry that needs no CUDA.
#pragma once

#include <cstdint>

namespace lesionkit::cuda {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue
constexpr int64_t kLargestGridX = (int64_t{1} << 31) - 1;
constexpr int64_t kLargestGridY = 65535;

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

constexpr int64_t divide_up(int64_t number, int64_t by) { return number / by + (number % by != 0); }
constexpr int64_t at_most(int64_t number, int64_t limit) { return number < limit ? number : limit; }

}  // namespace lesionkit::cuda
