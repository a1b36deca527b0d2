// A library that registers the plugins when it is opened.
//
// Triton Inference Server and `trtexec --staticPlugins` open a library of plugins with dlopen and
// leave the rest to it. liblesionkit_tensorrt.so registers nothing by itself, since TensorRT's
// registry, which registers what it loads, refuses plugins that it knows already. This one looks
// for the registry of the process and asks it to load the other, which lies in the same folder.
//
// No TensorRT headers: one library for all versions.
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <string>
#include <vector>

namespace lesionkit::tensorrt {

// The beginning of nvinfer1::IPluginRegistry: TensorRT 11 and TensorRT-RTX 1.5 dropped what had been
// deprecated. Only load_library is called. Visible, or the compiler concludes that nobody implements
// them.
#define FOREIGN __attribute__((visibility("default")))
struct FOREIGN Registry10 {
  virtual void register_creator() = 0;
  virtual void plugin_creator_list() = 0;
  virtual void plugin_creator() = 0;
  virtual ~Registry10() = default;
  virtual void set_error_recorder() = 0;
  virtual void error_recorder() = 0;
  virtual void deregister_creator() = 0;
  virtual void is_parent_search_enabled() = 0;
  virtual void set_parent_search_enabled() = 0;
  virtual void* load_library(const char* path) noexcept = 0;
};
struct FOREIGN Registry11 {
  virtual ~Registry11() = default;
  virtual void set_error_recorder() = 0;
  virtual void error_recorder() = 0;
  virtual void is_parent_search_enabled() = 0;
  virtual void set_parent_search_enabled() = 0;
  virtual void* load_library(const char* path) noexcept = 0;
};

namespace {

constexpr const char* kPlugins = "liblesionkit_tensorrt.so";

int add_path(dl_phdr_info* library, size_t, void* paths) {
  static_cast<std::vector<std::string>*>(paths)->emplace_back(library->dlpi_name);
  return 0;
}

std::string folder() {
  Dl_info self;
  const std::string path = dladdr(kPlugins, &self) ? self.dli_fname : "";
  return path.substr(0, path.rfind('/') + 1);
}

bool is_tensorrt(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  for (const char* known : {"libnvinfer.so", "libnvinfer_lean.so", "libtensorrt_rtx.so"}) {
    if (name.rfind(known, 0) == 0) return true;
  }
  return false;
}

// Whether the runtime `library` has taken the plugins.
bool register_in(void* library, const std::string& plugins) {
  const auto registry = reinterpret_cast<void* (*)()>(dlsym(library, "getPluginRegistry"));
  const auto version = reinterpret_cast<int (*)()>(dlsym(library, "getInferLibVersion"));
  void* found = registry ? registry() : nullptr;
  if (!found || !version) return false;
  // TensorRT 11.0.0 is 110000, TensorRT-RTX 1.5.0 is 10500.
  const bool is_new = version() >= (version() < 100000 ? 10500 : 110000);
  return is_new ? static_cast<Registry11*>(found)->load_library(plugins.c_str())
                : static_cast<Registry10*>(found)->load_library(plugins.c_str());
}

__attribute__((constructor)) void register_plugins() {
  const std::string plugins = folder() + kPlugins;
  // A library may be in the process for its owner alone, out of dlsym's reach but not of dlopen's.
  std::vector<std::string> paths;
  dl_iterate_phdr(add_path, &paths);
  int runtimes = 0, registered = 0;
  for (const std::string& path : paths) {
    if (!is_tensorrt(path)) continue;
    if (void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
      ++runtimes;
      registered += register_in(library, plugins);
      dlclose(library);
    }
  }
  if (runtimes == 0) {
    std::fprintf(stderr,
                 "lesionkit: there is no TensorRT in this process to register plugins with; open "
                 "this library after it, not with LD_PRELOAD\n");
  } else if (registered < runtimes) {
    std::fprintf(stderr, "lesionkit: TensorRT did not take the plugins of %s\n", plugins.c_str());
  }
}

}  // namespace
}  // namespace lesionkit::tensorrt
