#include "tensorrt/plugin.h"

#include <array>
#include <string>

#include "cuda/launch.h"
#include "tensorrt/check.h"

namespace lesionkit::tensorrt {
namespace {

using namespace nvinfer1;

constexpr const char* kNamespace = "lesionkit";
constexpr const char* kVersion = "1";
constexpr int kMostInputs = 3;

// The launchers' number of a type; -1 if they do not take it.
int stored_type(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return LESIONKIT_FLOAT32;
    case DataType::kHALF:
      return LESIONKIT_FLOAT16;
    case DataType::kBF16:
      return LESIONKIT_BFLOAT16;
    default:
      return -1;
  }
}

Dims known_extents(const DimsExprs& shape) {
  Dims dims;
  dims.nbDims = shape.nbDims;
  for (int i = 0; i < shape.nbDims; ++i) {
    dims.d[i] = shape.d[i]->isConstant() ? shape.d[i]->getConstantValue() : -1;
  }
  return dims;
}

}  // namespace

Plugin::Plugin(const Log& log, const char* name, std::vector<const char*> inputs)
    : log_(log), name_(name), inputs_(std::move(inputs)) {}

IPluginCapability* Plugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE:
      return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD:
      return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME:
      return static_cast<IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

const char* Plugin::getPluginName() const noexcept { return name_; }
const char* Plugin::getPluginVersion() const noexcept { return kVersion; }
const char* Plugin::getPluginNamespace() const noexcept { return kNamespace; }

int32_t Plugin::getNbOutputs() const noexcept { return 1; }

void Plugin::check_number(int32_t given) const {
  std::string names;
  for (const char* name : inputs_) names += (names.empty() ? "" : ", ") + std::string(name);
  check(given == num_inputs(), "the inputs are ", names, "; got ", given, " of them");
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t, const DataType* inputs,
                                   int32_t given) const noexcept {
  return guarded(log_, name_, -1, [&] {
    check_number(given);
    check(stored_type(inputs[0]) >= 0, input_name(0),
          " must be float32, float16 or bfloat16, got ", inputs[0]);
    for (int i = 1; i < given; ++i) {
      const DataType needed = type_beside(inputs[0], i);
      if (inputs[i] == needed) continue;
      // TensorRT 10 inserts the conversion itself, unless the network is strongly typed.
      std::ostringstream message;
      message << input_name(i) << " is " << inputs[i] << " and must become " << needed << " beside "
              << input_name(0) << " in " << inputs[0]
              << "; a strongly typed network has to cast it";
      log_.write(Severity::kWARNING, name_, message.str().c_str());
    }
    outputs[0] = inputs[0];
    return 0;
  });
}

int32_t Plugin::getOutputShapes(const DimsExprs* inputs, int32_t given, const DimsExprs*, int32_t,
                                DimsExprs* outputs, int32_t, IExprBuilder& builder) noexcept {
  return guarded(log_, name_, -1, [&] {
    check_number(given);
    std::array<Dims, kMostInputs> known;
    for (int i = 0; i < given; ++i) known[i] = known_extents(inputs[i]);
    check_shapes(known.data());
    outputs[0] = output_shape(inputs, builder);
    return 0;
  });
}

bool Plugin::supportsFormatCombination(int32_t position, const DynamicDesc* tensors, int32_t given,
                                       int32_t) noexcept {
  const Desc& tensor = tensors[position].desc;
  const DataType first = tensors[0].desc.type;
  if (given != num_inputs() || tensor.format != TensorFormat::kLINEAR) return false;
  if (position == 0 || position == given) return tensor.type == first && stored_type(first) >= 0;
  return tensor.type == type_beside(first, position);
}

int32_t Plugin::configurePlugin(const DynamicDesc*, int32_t, const DynamicDesc*,
                                int32_t) noexcept {
  return 0;
}

void Plugin::check_descs(const Desc* inputs) const {
  std::array<Dims, kMostInputs> dims;
  for (int i = 0; i < num_inputs(); ++i) dims[i] = inputs[i].dims;
  check_shapes(dims.data());
}

int32_t Plugin::onShapeChange(const Desc* inputs, int32_t given, const Desc*, int32_t) noexcept {
  return guarded(log_, name_, -1, [&] {
    check_number(given);
    check_descs(inputs);
    return 0;
  });
}

int32_t Plugin::enqueue(const Desc* descs, const Desc*, const void* const* inputs,
                        void* const* outputs, void*, cudaStream_t stream) noexcept {
  return guarded(log_, name_, -1, [&] {
    check_descs(descs);
    const int error = launch(descs, stored_type(descs[0].type), inputs, outputs[0], stream);
    check(error == 0, "could not be launched: ", lesionkit_error_string(error));
    return 0;
  });
}

IPluginV3* Plugin::attachToContext(IPluginResourceContext*) noexcept { return clone(); }

const PluginFieldCollection* Plugin::getFieldsToSerialize() noexcept {
  return guarded<const PluginFieldCollection*>(log_, name_, nullptr, [&] {
    serialized_ = fields();
    collection_ = {static_cast<int32_t>(serialized_.size()), serialized_.data()};
    return &collection_;
  });
}

Creator::Creator(const Log& log, const char* name, std::vector<PluginField> fields)
    : log_(log),
      name_(name),
      fields_(std::move(fields)),
      collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

IPluginV3* Creator::createPlugin(const char*, const PluginFieldCollection* fields,
                                 TensorRTPhase) noexcept {
  return guarded<IPluginV3*>(log_, name_, nullptr,
                             [&]() -> IPluginV3* { return create(Fields(fields, fields_)); });
}

const PluginFieldCollection* Creator::getFieldNames() noexcept { return &collection_; }
const char* Creator::getPluginName() const noexcept { return name_; }
const char* Creator::getPluginVersion() const noexcept { return kVersion; }
const char* Creator::getPluginNamespace() const noexcept { return kNamespace; }

}  // namespace lesionkit::tensorrt
