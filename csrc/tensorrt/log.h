// Messages to TensorRT's log.
#pragma once

#include <NvInferRuntime.h>

#include <exception>

// The headers' folder is TENSORRT_INCLUDE_DIR, or include/ in TENSORRT_ROOT. The library that is
// built with them works with every TensorRT from 10.0 on, and with TensorRT-RTX.
#if NV_TENSORRT_MAJOR < 10
#error "lesionkit's plugins are built with the headers of TensorRT 10.0 or later"
#endif

namespace lesionkit::tensorrt {

using Severity = nvinfer1::ILogger::Severity;

// The log of one runtime; there can be more than one in a process.
class Log {
 public:
  // `finder` is what the runtime gave setLoggerFinder, which it owns; or null.
  explicit Log(nvinfer1::ILoggerFinder* finder);

  // "lesionkit <plugin>: <message>" in the log of the engine, builder or parser that called us; on
  // stderr if there is none.
  void write(Severity severity, const char* plugin, const char* message) const noexcept;

 private:
  bool found(Severity severity, const char* text) const;

  void* finder_;
  bool versioned_;
};

// What body returns; `failure`, and an error in the log, if it throws. Nothing that throws is
// called from TensorRT in another way.
template <class Result, class Body>
Result guarded(const Log& log, const char* plugin, Result failure, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log.write(Severity::kERROR, plugin, error.what());
  }
  return failure;
}

}  // namespace lesionkit::tensorrt
