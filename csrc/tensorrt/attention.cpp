#include "tensorrt/attention.h"

#include <array>

#include "tensorrt/check.h"

namespace lesionkit::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

using Temperatures = std::array<float, 2>;

std::vector<const char*> inputs_of(const AttentionOp& op) {
  std::vector<const char*> names{"x"};
  names.insert(names.end(), op.logits, op.logits + op.num_logits);
  return names;
}

// Fields with their values; without, where there are none yet.
std::vector<PluginField> fields_of(const AttentionOp& op, const float* temperatures) {
  std::vector<PluginField> fields;
  for (int i = 0; i < op.num_logits; ++i) {
    const float* value = temperatures ? temperatures + i : nullptr;
    fields.emplace_back(op.temperatures[i], value, PluginFieldType::kFLOAT32, 1);
  }
  return fields;
}

bool may_be_equal(const nvinfer1::Dims& a, const nvinfer1::Dims& b) {
  if (a.nbDims != b.nbDims) return false;
  for (int i = 0; i < a.nbDims; ++i) {
    if (a.d[i] >= 0 && b.d[i] >= 0 && a.d[i] != b.d[i]) return false;
  }
  return true;
}

class Attention final : public Plugin {
 public:
  Attention(const Log& log, const AttentionOp& op, Temperatures temperatures)
      : Plugin(log, op.name, inputs_of(op)), op_(op), temperatures_(temperatures) {}

  Attention* clone() noexcept override {
    return guarded<Attention*>(log(), op_.name, nullptr,
                               [&] { return new Attention(log(), op_, temperatures_); });
  }

 private:
  void check_shapes(const Dims* inputs) const override {
    const Dims& x = inputs[0];
    check(x.nbDims == 5, "x must be [B, M, D, H, W], got ", x);
    for (int i = 1; i < num_inputs(); ++i) {
      check(may_be_equal(x, inputs[i]), input_name(i), " must have x's shape ", x, ", got ",
            inputs[i]);
    }
    const int64_t most = op_.most_images ? op_.most_images() : x.d[1];
    check(x.d[1] <= most, "x must have at most ", most, " images (M), got ", x);
  }

  DimsExprs output_shape(const DimsExprs* inputs, nvinfer1::IExprBuilder&) const override {
    return inputs[0];
  }

  DataType type_beside(DataType x, int) const override { return x; }

  int launch(const Desc* descs, int type, const void* const* inputs, void* y,
             void* stream) const override {
    const auto& d = descs[0].dims.d;
    const AttentionSizes sizes{d[0], d[1], d[2], d[3] * d[4]};
    return op_.launch(sizes, type, inputs, y, temperatures_.data(), stream);
  }

  std::vector<PluginField> fields() const override { return fields_of(op_, temperatures_.data()); }

  const AttentionOp& op_;
  Temperatures temperatures_;
};

class AttentionCreator final : public Creator {
 public:
  AttentionCreator(const Log& log, const AttentionOp& op)
      : Creator(log, op.name, fields_of(op, nullptr)), op_(op) {}

 private:
  Plugin* create(const Fields& fields) const override {
    Temperatures temperatures{};
    for (int i = 0; i < op_.num_logits; ++i) {
      temperatures[i] = fields.positive(op_.temperatures[i]);
    }
    return new Attention(log(), op_, temperatures);
  }

  const AttentionOp& op_;
};

}  // namespace

nvinfer1::IPluginCreatorInterface* new_attention_creator(const Log& log, const AttentionOp& op) {
  return new AttentionCreator(log, op);
}

}  // namespace lesionkit::tensorrt
