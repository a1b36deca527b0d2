#include <cstring>
#include <string_view>

#include "cuda/launch.h"
#include "tensorrt/check.h"
#include "tensorrt/plugin.h"

namespace lesionkit::tensorrt {
namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr const char* kName = "PSRoIPool";
constexpr int32_t kMostBins = 1 << 15;
constexpr int64_t kLargestExtent = int64_t{1} << 30;

struct Parameters {
  int32_t output_size;  // G
  float spatial_scale;  // feature cells per image pixel
  LesionkitConvention convention;
};

const char* name_of(LesionkitConvention convention) {
  return convention == LESIONKIT_RFCN ? "rfcn" : "torchvision";
}

LesionkitConvention convention_of(std::string_view name) {
  check(name == "rfcn" || name == "torchvision",
        "convention must be \"rfcn\" or \"torchvision\", got \"", name, "\"");
  return name == "rfcn" ? LESIONKIT_RFCN : LESIONKIT_TORCHVISION;
}

// Fields with their values; without, where there are none yet.
std::vector<PluginField> fields_of(const Parameters* given) {
  const char* convention = given ? name_of(given->convention) : nullptr;
  const auto length = static_cast<int32_t>(convention ? std::strlen(convention) : 1);
  return {{"output_size", given ? &given->output_size : nullptr, PluginFieldType::kINT32, 1},
          {"spatial_scale", given ? &given->spatial_scale : nullptr, PluginFieldType::kFLOAT32, 1},
          {"convention", convention, PluginFieldType::kCHAR, length}};
}

// features [B, C*G*G, H, W] and float32 rois [K, 5] to [K, C, G, G].
class PsroiPlugin final : public Plugin {
 public:
  PsroiPlugin(const Log& log, const Parameters& parameters)
      : Plugin(log, kName, {"features", "rois"}), parameters_(parameters) {}

  PsroiPlugin* clone() noexcept override {
    return guarded<PsroiPlugin*>(log(), kName, nullptr,
                                 [&] { return new PsroiPlugin(log(), parameters_); });
  }

 private:
  int64_t bins() const { return int64_t{parameters_.output_size} * parameters_.output_size; }

  void check_shapes(const Dims* inputs) const override {
    const Dims &features = inputs[0], &rois = inputs[1];
    check(features.nbDims == 4, "features must be [B, C*G*G, H, W], got ", features);
    check(features.d[1] < 0 || features.d[1] % bins() == 0, "the square of output_size ",
          parameters_.output_size, " must divide the channels of features ", features);
    for (const int axis : {0, 2, 3}) {
      check(features.d[axis] <= kLargestExtent, "features must have extents up to ",
            kLargestExtent, ", got ", features);
    }
    check(rois.nbDims == 2 && (rois.d[1] < 0 || rois.d[1] == 5), "rois must be [K, 5], got ", rois);
  }

  DimsExprs output_shape(const DimsExprs* inputs,
                         nvinfer1::IExprBuilder& builder) const override {
    const auto* channels = builder.operation(DimensionOperation::kFLOOR_DIV, *inputs[0].d[1],
                                             *builder.constant(bins()));
    const auto* side = builder.constant(parameters_.output_size);
    DimsExprs pooled;
    pooled.nbDims = 4;
    pooled.d[0] = inputs[1].d[0];
    pooled.d[1] = channels;
    pooled.d[2] = pooled.d[3] = side;
    return pooled;
  }

  DataType type_beside(DataType, int) const override { return DataType::kFLOAT; }

  int launch(const Desc* descs, int type, const void* const* inputs, void* pooled,
             void* stream) const override {
    const auto& features = descs[0].dims.d;
    return lesionkit_psroi_forward(
        inputs[0], inputs[1], pooled, type, LESIONKIT_FLOAT32, descs[1].dims.d[0], features[0],
        features[1] / bins(), parameters_.output_size, static_cast<int>(features[2]),
        static_cast<int>(features[3]), parameters_.spatial_scale, parameters_.convention, stream);
  }

  std::vector<PluginField> fields() const override { return fields_of(&parameters_); }

  Parameters parameters_;
};

class PsroiCreator final : public Creator {
 public:
  explicit PsroiCreator(const Log& log) : Creator(log, kName, fields_of(nullptr)) {}

 private:
  Plugin* create(const Fields& fields) const override {
    return new PsroiPlugin(log(), {fields.integer("output_size", 1, kMostBins),
                                   fields.positive("spatial_scale"),
                                   convention_of(fields.text("convention"))});
  }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* psroi_creator(const Log& log) { return new PsroiCreator(log); }

}  // namespace lesionkit::tensorrt
