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

// "lesionkit <plugin>: <message>" in the log of the engine, builder or parser that called us; on
// stderr if there is none.
void log(Severity severity, const char* plugin, const char* message) noexcept;

// What body returns; `failure`, and an error in the log, if it throws. Nothing that throws is
// called from TensorRT in another way.
template <class Result, class Body>
Result guarded(const char* plugin, Result failure, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log(Severity::kERROR, plugin, error.what());
  }
  return failure;
}

}  // namespace lesionkit::tensorrt
