// csrc/cuda/launch.cuh for g++: found in its place, it runs the kernels on fibers.
#pragma once

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>

#include "common/device.cuh"
#include "cuda/grid.h"

namespace lesionkit::cuda {

// The kernel's name with its template arguments, its geometry, and each argument's bytes in hex.
template <class... Parameters>
std::string described(void (*kernel)(Parameters...), Grid grid, int threads, int shared_bytes,
                      Parameters... arguments) {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(kernel), &info);
  std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr), std::free);
  std::string text = name ? name.get() : "?";
  for (const auto part : {grid.x, grid.y, grid.z, unsigned(threads), unsigned(shared_bytes)}) {
    text += ";" + std::to_string(part);
  }
  const auto add = [&](const auto& argument) {
    text += ";";
    for (size_t i = 0; i < sizeof argument; ++i) {
      char digits[3];
      std::snprintf(digits, 3, "%02x", reinterpret_cast<const unsigned char*>(&argument)[i]);
      text += digits;
    }
  };
  (add(arguments), ...);
  return text;
}

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), Grid grid, int threads, int shared_bytes, void*,
           Arguments... arguments) {
  emulator::launches.push_back(
      described<Parameters...>(kernel, grid, threads, shared_bytes, Parameters(arguments)...));
  return emulator::run_grid(dim3(grid.x, grid.y, grid.z), dim3(threads), shared_bytes,
                            [&] { kernel(Parameters(arguments)...); });
}

}  // namespace lesionkit::cuda
