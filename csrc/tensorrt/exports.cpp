// What TensorRT's registry calls when it loads the library: setLoggerFinder, then getCreators.
//
// A process may hold two runtimes, `tensorrt` and `tensorrt_rtx`, and both may load this one library.
// Each gets creators of its own, whose plugins write into its log, whichever was loaded last.
#include <array>
#include <map>
#include <mutex>

#include "tensorrt/plugin.h"

namespace lesionkit::tensorrt {
namespace {

struct Runtime {
  explicit Runtime(nvinfer1::ILoggerFinder* finder)
      : log(finder),
        creators{contextual_creator(log), spatial_creator(log), dual_creator(log),
                 psroi_creator(log)} {}
  Runtime(const Runtime&) = delete;  // the creators point to the log

  Log log;
  std::array<nvinfer1::IPluginCreatorInterface*, 4> creators;
};

struct Runtimes {
  std::mutex mutex;
  nvinfer1::ILoggerFinder* finder = nullptr;  // of the runtime that is loading us
  std::map<nvinfer1::ILoggerFinder*, Runtime> known;
};

// Never destroyed, as creators are not.
Runtimes& runtimes() {
  static auto* const all = new Runtimes;
  return *all;
}

}  // namespace
}  // namespace lesionkit::tensorrt

#pragma GCC visibility push(default)
extern "C" {

void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  auto& all = lesionkit::tensorrt::runtimes();
  const std::lock_guard lock(all.mutex);
  all.finder = finder;
}

nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using namespace lesionkit::tensorrt;
  using Creators = nvinfer1::IPluginCreatorInterface* const*;
  count = 0;
  return guarded<Creators>(Log(nullptr), "plugins", nullptr, [&] {
    auto& all = runtimes();
    const std::lock_guard lock(all.mutex);
    const auto& creators = all.known.try_emplace(all.finder, all.finder).first->second.creators;
    count = static_cast<int32_t>(creators.size());
    return creators.data();
  });
}

}  // extern "C"
#pragma GCC visibility pop
