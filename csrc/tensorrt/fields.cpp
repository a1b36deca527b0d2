#include "tensorrt/fields.h"

#include <cmath>
#include <cstring>
#include <string>

#include "tensorrt/check.h"

namespace lesionkit::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

std::string name_of(PluginFieldType type) {
  switch (type) {
    case PluginFieldType::kFLOAT16:
      return "float16";
    case PluginFieldType::kFLOAT32:
      return "float32";
    case PluginFieldType::kFLOAT64:
      return "float64";
    case PluginFieldType::kINT32:
      return "int32";
    case PluginFieldType::kINT64:
      return "int64";
    case PluginFieldType::kCHAR:
      return "a string";
    default:
      return "type " + std::to_string(static_cast<int>(type));
  }
}

const PluginField* find(const std::vector<PluginField>& fields, const char* name) {
  for (const PluginField& field : fields) {
    if (std::strcmp(field.name, name) == 0) return &field;
  }
  return nullptr;
}

std::string names_of(const std::vector<PluginField>& fields) {
  std::string names;
  for (const PluginField& field : fields) {
    names += (names.empty() ? "" : ", ") + std::string(field.name);
  }
  return names;
}

}  // namespace

Fields::Fields(const nvinfer1::PluginFieldCollection* given,
               const std::vector<PluginField>& declared) {
  const int count = given && given->fields ? given->nbFields : 0;
  for (int i = 0; i < count; ++i) {
    const PluginField& field = given->fields[i];
    const char* name = field.name ? field.name : "";
    const PluginField* like = find(declared, name);
    check(like, "there is no field ", name, "; the fields are ", names_of(declared));
    check(!find(fields_, name), "field ", name, " is given twice");
    check(field.type == like->type, "field ", name, " must be ", name_of(like->type), ", got ",
          name_of(field.type));
    const bool is_text = field.type == PluginFieldType::kCHAR;
    check(is_text ? field.length >= 0 : field.length == 1, "field ", name,
          " must be one value, got ", field.length);
    check(field.data || (is_text && field.length == 0), "field ", name, " has no data");
    fields_.push_back(field);
  }
  for (const PluginField& field : declared) {
    check(find(fields_, field.name), "field ", field.name, " is missing; the fields are ",
          names_of(declared));
  }
}

const PluginField& Fields::named(const char* name) const { return *find(fields_, name); }

float Fields::positive(const char* name) const {
  float value;
  std::memcpy(&value, named(name).data, sizeof(value));
  check(std::isfinite(value) && value > 0, name, " must be finite and above 0, got ", value);
  return value;
}

int32_t Fields::integer(const char* name, int32_t lowest, int32_t highest) const {
  int32_t value;
  std::memcpy(&value, named(name).data, sizeof(value));
  check(value >= lowest && value <= highest, name, " must be ", lowest, " to ", highest, ", got ",
        value);
  return value;
}

std::string_view Fields::text(const char* name) const {
  const PluginField& field = named(name);
  if (field.length == 0) return {};
  const auto* data = static_cast<const char*>(field.data);
  // Some writers count the closing zero.
  return {data, strnlen(data, field.length)};
}

}  // namespace lesionkit::tensorrt
