// Checks that throw, and how messages show what TensorRT describes.
#pragma once

#include <NvInferRuntime.h>

#include <ostream>
#include <sstream>
#include <stdexcept>

namespace lesionkit::tensorrt {

// Unknown extents are -1 and shown as ?.
inline std::ostream& operator<<(std::ostream& out, const nvinfer1::Dims& dims) {
  out << '[';
  for (int i = 0; i < dims.nbDims; ++i) {
    if (i > 0) out << ", ";
    if (dims.d[i] < 0) {
      out << '?';
    } else {
      out << dims.d[i];
    }
  }
  return out << ']';
}

inline std::ostream& operator<<(std::ostream& out, nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return out << "float32";
    case nvinfer1::DataType::kHALF:
      return out << "float16";
    case nvinfer1::DataType::kBF16:
      return out << "bfloat16";
    case nvinfer1::DataType::kINT8:
      return out << "int8";
    case nvinfer1::DataType::kINT32:
      return out << "int32";
    case nvinfer1::DataType::kINT64:
      return out << "int64";
    case nvinfer1::DataType::kBOOL:
      return out << "bool";
    default:
      return out << "type " << static_cast<int>(type);
  }
}

// Throws `parts`, joined, unless `holds`.
template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

}  // namespace lesionkit::tensorrt
