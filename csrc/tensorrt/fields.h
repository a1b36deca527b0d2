// The fields that a plugin is created from: the attributes of its ONNX node.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tensorrt/log.h"

namespace lesionkit::tensorrt {

class Fields {
 public:
  // Throws unless every declared field is given, of its declared type, and no other is.
  Fields(const nvinfer1::PluginFieldCollection* given,
         const std::vector<nvinfer1::PluginField>& declared);

  // A kFLOAT32; throws unless it is finite and above 0.
  float positive(const char* name) const;
  // A kINT32; throws outside lowest..highest.
  int32_t integer(const char* name, int32_t lowest, int32_t highest) const;
  // A kCHAR; only valid as long as what the fields were made from.
  std::string_view text(const char* name) const;

 private:
  const nvinfer1::PluginField& named(const char* name) const;

  std::vector<nvinfer1::PluginField> fields_;
};

}  // namespace lesionkit::tensorrt
