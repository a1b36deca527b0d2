// Runs CUDA kernels on the CPU: blocks one after another, the threads of a block as fibers.
//
// A fiber runs until it exits or waits at a barrier; __syncthreads and every warp collective are
// barriers. Which fiber runs next, and which block, is drawn at random when a seed is set: a kernel
// that lacks a barrier, or whose blocks depend on each other, then gives other results. A barrier
// that some threads never reach ends the launch with an error that names the lines.
#pragma once

#include <link.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define EMULATOR_ASAN(...) __VA_ARGS__
#else
#define EMULATOR_ASAN(...)
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

using Place = std::source_location;
constexpr unsigned kWarp = 32;
constexpr unsigned kWidest = 16;  // bytes of an access
constexpr size_t kStackBytes = 64 << 10;

enum class State { ready, at_warp_barrier, at_block_barrier, done };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state;
  Place place;
  dim3 index;
  uint64_t given;  // to the warp's collective
  uint64_t seen;   // what all lanes gave, once all have arrived
};

inline std::vector<std::unique_ptr<Fiber>> fibers;
inline unsigned current;
inline ucontext_t scheduler;
inline const std::function<void()>* body;
inline uint64_t seed = 0;
inline bool only_record = false;  // launches, without running them
inline std::mt19937_64 random;
inline std::string problem;  // of the last launch; empty if there was none
inline std::vector<std::string> launches;  // since they were last asked for
inline uint64_t stores[kWidest + 1];  // by their bytes, since they were last asked for
inline std::vector<unsigned char> dynamic_shared;
EMULATOR_ASAN(inline void* scheduler_fake; inline const void* scheduler_stack;
              inline size_t scheduler_stack_bytes;)

inline Fiber& self() { return *fibers[current]; }

inline void back_to_scheduler() {
  EMULATOR_ASAN(void* fake; const bool last = self().state == State::done;
                __sanitizer_start_switch_fiber(last ? nullptr : &fake, scheduler_stack,
                                               scheduler_stack_bytes);)
  swapcontext(&self().context, &scheduler);
  EMULATOR_ASAN(__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);)
}

inline void wait(State state, Place place) {
  self().state = state;
  self().place = place;
  back_to_scheduler();
}

inline void fiber_main() {
  EMULATOR_ASAN(__sanitizer_finish_switch_fiber(nullptr, &scheduler_stack,
                                                &scheduler_stack_bytes);)
  (*body)();
  self().state = State::done;
  back_to_scheduler();
}

inline void resume(unsigned index) {
  current = index;
  threadIdx = self().index;
  EMULATOR_ASAN(__sanitizer_start_switch_fiber(&scheduler_fake, self().stack.get(), kStackBytes);)
  swapcontext(&scheduler, &self().context);
  EMULATOR_ASAN(__sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);)
}

inline std::string described(unsigned index) {
  const Fiber& fiber = *fibers[index];
  const std::string thread = "thread " + std::to_string(index);
  if (fiber.state == State::done) return thread + " has exited";
  return thread + " waits at " + fiber.place.file_name() + ":" + std::to_string(fiber.place.line());
}

// Lets the fibers [first, last) go on if all of them wait at the same barrier.
inline bool release(unsigned first, unsigned last, State barrier, std::vector<unsigned>& ready) {
  for (unsigned i = first; i < last; ++i) {
    if (fibers[i]->state != barrier) return false;
    if (fibers[i]->place.line() != fibers[first]->place.line() ||
        std::strcmp(fibers[i]->place.file_name(), fibers[first]->place.file_name())) {
      throw std::runtime_error("divergent barrier: " + described(first) + ", " + described(i));
    }
  }
  for (unsigned i = first; i < last; ++i) {
    fibers[i]->state = State::ready;
    fibers[i]->seen = fibers[i]->given;
    ready.push_back(i);
  }
  return true;
}

// Without the address sanitizer, __shared__ is thread_local: all of this library's is one piece of
// memory, which can be found and filled with NaN. With it, __shared__ is static: the sanitizer
// guards what stands around each variable.
inline thread_local char shared_memory_exists;
inline void poison_shared_memory() {
  std::fill(dynamic_shared.begin(), dynamic_shared.end(), 0xff);
  if (EMULATOR_ASAN(true ||) false) return;
  shared_memory_exists = 1;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        const uintptr_t here = reinterpret_cast<uintptr_t>(&shared_memory_exists);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& part = info->dlpi_phdr[i];
          const uintptr_t start = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
          if (part.p_type == PT_TLS && here >= start && here < start + part.p_memsz) {
            std::memset(info->dlpi_tls_data, 0xff, part.p_memsz);
          }
        }
        return 0;
      },
      nullptr);
}

inline void run_block() {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
  std::vector<unsigned> ready(threads);
  std::iota(ready.rbegin(), ready.rend(), 0u);
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = *fibers[i];
    fiber.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    fiber.state = State::ready;
    getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.get(), 0, kStackBytes};
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
  poison_shared_memory();
  unsigned done = 0, at_block_barrier = 0;
  while (!ready.empty()) {
    if (seed) std::swap(ready.back(), ready[random() % ready.size()]);
    const unsigned next = ready.back();
    ready.pop_back();
    resume(next);
    const State state = fibers[next]->state;
    if (state == State::done) {
      ++done;
    } else if (state == State::at_block_barrier) {
      if (++at_block_barrier == threads && release(0, threads, state, ready)) at_block_barrier = 0;
    } else {
      const unsigned first = next / kWarp * kWarp;
      release(first, std::min(first + kWarp, threads), state, ready);
    }
  }
  if (done == threads) return;
  unsigned waiting = 0, other = 0;
  while (fibers[waiting]->state == State::done) ++waiting;
  while (other < threads && (fibers[other]->state == fibers[waiting]->state)) ++other;
  throw std::runtime_error("divergent barrier: " + described(waiting) +
                           (other < threads ? ", " + described(other) : ""));
}

// Returns 0, or what CUDA would: 9 for an impossible configuration, 719 for a failed kernel.
inline int run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  constexpr size_t kMostSharedBytes = 99 << 10;  // the least of all supported architectures
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  problem.clear();
  if (!blocks || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || !threads ||
      threads > 1024 || threads % kWarp || shared_bytes > kMostSharedBytes) {
    problem = "impossible launch configuration";
    return 9;
  }
  if (only_record) return 0;
  gridDim = grid;
  blockDim = block;
  body = &kernel;
  dynamic_shared = std::vector<unsigned char>(shared_bytes);
  random.seed(seed);
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (seed) std::shuffle(order.begin(), order.end(), random);
  try {
    for (const uint64_t index : order) {
      blockIdx = dim3(index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y);
      run_block();
    }
  } catch (const std::runtime_error& error) {
    problem = error.what();
    return 719;
  }
  return 0;
}

}  // namespace emulator
