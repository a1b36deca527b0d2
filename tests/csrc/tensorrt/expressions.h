// Expressions of dimensions: numbers, or text where they are not known.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <string>

using namespace nvinfer1;

namespace {

class Expression final : public IDimensionExpr {
 public:
  Expression(bool constant, int64_t value, std::string text) : state_(constant, value, text) {
    mImpl = &state_;
  }
  ~Expression() noexcept override = default;
  std::string text() const { return state_.text; }

 private:
  struct State final : apiv::VDimensionExpr {
    State(bool constant, int64_t value, std::string text)
        : constant(constant), value(value), text(text) {}
    bool isConstant() const override { return constant; }
    int64_t getConstantValue() const override { return value; }
    bool isSizeTensor() const override { return false; }
    bool constant;
    int64_t value;
    std::string text;
  } state_;
};

class Builder final : public IExprBuilder {
 public:
  Builder() : state_(this) { mImpl = &state_; }
  ~Builder() noexcept override = default;
  const IDimensionExpr* unknown(std::string name) {
    return &expressions_.emplace_back(false, INT64_MIN, name);
  }
  const IDimensionExpr* number(int64_t value) {
    return &expressions_.emplace_back(true, value, std::to_string(value));
  }

 private:
  const IDimensionExpr* combine(DimensionOperation op, const IDimensionExpr& first,
                                const IDimensionExpr& second) {
    const int64_t a = first.getConstantValue(), b = second.getConstantValue();
    const bool constant = first.isConstant() && second.isConstant();
    const auto& left = static_cast<const Expression&>(first).text();
    const auto& right = static_cast<const Expression&>(second).text();
    switch (op) {
      case DimensionOperation::kPROD:
        return constant ? number(a * b) : unknown("(" + left + " * " + right + ")");
      case DimensionOperation::kFLOOR_DIV:
        return constant ? number(a / b) : unknown("(" + left + " // " + right + ")");
      default:
        return nullptr;
    }
  }
  struct State final : apiv::VExprBuilder {
    explicit State(Builder* builder) : builder(builder) {}
    const IDimensionExpr* constant(int64_t value) override { return builder->number(value); }
    const IDimensionExpr* operation(DimensionOperation op, const IDimensionExpr& first,
                                    const IDimensionExpr& second) override {
      return builder->combine(op, first, second);
    }
    const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&,
                                            const IDimensionExpr&) override {
      return nullptr;
    }
    Builder* builder;
  } state_;
  std::deque<Expression> expressions_;
};

}  // namespace
