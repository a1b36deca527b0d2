#include "tensorrt/log.h"

#include <dlfcn.h>

#include <cstdio>

namespace lesionkit::tensorrt {

// TensorRT's ILoggerFinder and ILogger derive from IVersionedInterface since TensorRT 11 and
// TensorRT-RTX 1.5, and did not before, so their functions have other places in the table. One
// library serves all versions, hence both layouts are written out here; every other interface that
// plugins meet has only one. Visible, or the compiler concludes that nobody implements them.
#define FOREIGN __attribute__((visibility("default")))
struct FOREIGN Finder10 {
  virtual void* find_logger() = 0;
};
struct FOREIGN Logger10 {
  virtual void log(Severity severity, const char* message) noexcept = 0;
};
struct FOREIGN Finder11 : nvinfer1::IVersionedInterface {
  virtual void* find_logger() = 0;
};
struct FOREIGN Logger11 : nvinfer1::IVersionedInterface {
  virtual void log(Severity severity, const char* message) noexcept = 0;
};

namespace {

bool is_versioned(int version) {
  const bool rtx = version < 100000;  // TensorRT-RTX 1.5.0 is 10500, TensorRT 11.0.0 is 110000
  return version >= (rtx ? 10500 : 110000);
}

// getInferLibVersion() of the library that the object's class belongs to.
int version_behind(const void* object) {
  Dl_info owner;
  const void* function_table = *static_cast<const void* const*>(object);
  if (!dladdr(function_table, &owner)) return NV_TENSORRT_VERSION;
  void* library = dlopen(owner.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return NV_TENSORRT_VERSION;
  const auto version = reinterpret_cast<int (*)()>(dlsym(library, "getInferLibVersion"));
  const int found = version ? version() : NV_TENSORRT_VERSION;
  dlclose(library);
  return found;
}

}  // namespace

Log::Log(nvinfer1::ILoggerFinder* finder)
    : finder_(finder), versioned_(finder && is_versioned(version_behind(finder))) {}

bool Log::found(Severity severity, const char* text) const {
  void* logger = !finder_     ? nullptr
                 : versioned_ ? static_cast<Finder11*>(finder_)->find_logger()
                              : static_cast<Finder10*>(finder_)->find_logger();
  if (!logger) return false;
  versioned_ ? static_cast<Logger11*>(logger)->log(severity, text)
             : static_cast<Logger10*>(logger)->log(severity, text);
  return true;
}

void Log::write(Severity severity, const char* plugin, const char* message) const noexcept {
  char text[1024];
  std::snprintf(text, sizeof(text), "lesionkit %s: %s", plugin, message);
  bool logged = false;
  try {
    logged = found(severity, text);
  } catch (...) {  // findLogger() is not noexcept
  }
  if (!logged) std::fprintf(stderr, "%s\n", text);
}

}  // namespace lesionkit::tensorrt
