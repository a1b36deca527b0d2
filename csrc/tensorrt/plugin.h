// TensorRT's IPluginV3 in terms of the few answers in which our plugins differ.
//
// Every plugin has one output, of the type of its first input, takes linear float32, float16 or
// bfloat16 tensors, needs no workspace, and touches CUDA in enqueue alone, where all it does is to
// launch on the stream that it is given.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "tensorrt/fields.h"

namespace lesionkit::tensorrt {

class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  using Dims = nvinfer1::Dims;
  using DimsExprs = nvinfer1::DimsExprs;
  using Desc = nvinfer1::PluginTensorDesc;
  using DynamicDesc = nvinfer1::DynamicPluginTensorDesc;
  using DataType = nvinfer1::DataType;

  // `log` is its creator's.
  Plugin(const Log& log, const char* name, std::vector<const char*> inputs);

  // IPluginV3; clone() is each plugin's own.
  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept final;

  // IPluginV3OneCore
  const char* getPluginName() const noexcept final;
  const char* getPluginVersion() const noexcept final;
  const char* getPluginNamespace() const noexcept final;

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept final;
  int32_t getOutputDataTypes(DataType* outputs, int32_t num_outputs, const DataType* inputs,
                             int32_t num_inputs) const noexcept final;
  int32_t getOutputShapes(const DimsExprs* inputs, int32_t num_inputs, const DimsExprs* shapes,
                          int32_t num_shapes, DimsExprs* outputs, int32_t num_outputs,
                          nvinfer1::IExprBuilder& builder) noexcept final;
  bool supportsFormatCombination(int32_t position, const DynamicDesc* tensors, int32_t num_inputs,
                                 int32_t num_outputs) noexcept final;
  int32_t configurePlugin(const DynamicDesc* inputs, int32_t num_inputs, const DynamicDesc* outputs,
                          int32_t num_outputs) noexcept final;

  // IPluginV3OneRuntime
  int32_t onShapeChange(const Desc* inputs, int32_t num_inputs, const Desc* outputs,
                        int32_t num_outputs) noexcept final;
  int32_t enqueue(const Desc* input_descs, const Desc* output_descs, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept final;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept final;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept final;

 protected:
  // Throws unless the inputs fit together. Extents that are not known yet are -1.
  virtual void check_shapes(const Dims* inputs) const = 0;
  virtual DimsExprs output_shape(const DimsExprs* inputs,
                                 nvinfer1::IExprBuilder& builder) const = 0;
  // Of an input beside the first, when that one is of type `first`.
  virtual DataType type_beside(DataType first, int input) const = 0;
  // Queues the kernels: the cudaError_t of csrc/cuda/launch.h. `type` is the first input's there.
  virtual int launch(const Desc* descs, int type, const void* const* inputs, void* output,
                     void* stream) const = 0;
  // Pointing to the plugin's own values.
  virtual std::vector<nvinfer1::PluginField> fields() const = 0;

  const Log& log() const { return log_; }
  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  const char* input_name(int input) const { return inputs_[input]; }

 private:
  void check_number(int32_t num_inputs) const;
  void check_descs(const Desc* inputs) const;

  const Log& log_;
  const char* name_;
  std::vector<const char*> inputs_;
  // What getFieldsToSerialize() hands out.
  std::vector<nvinfer1::PluginField> serialized_;
  nvinfer1::PluginFieldCollection collection_;
};

class Creator : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator(const Log& log, const char* name, std::vector<nvinfer1::PluginField> fields);

  nvinfer1::IPluginV3* createPlugin(const char* layer,
                                    const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept final;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept final;
  const char* getPluginName() const noexcept final;
  const char* getPluginVersion() const noexcept final;
  const char* getPluginNamespace() const noexcept final;

 protected:
  // Throws for values that the plugin does not take.
  virtual Plugin* create(const Fields& fields) const = 0;

  const Log& log() const { return log_; }

 private:
  const Log& log_;
  const char* name_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
};

// One for each op. They live as long as the process, as `log` must: TensorRT's registry, which
// outlives the library's static objects, may still ask them when the process ends.
nvinfer1::IPluginCreatorInterface* contextual_creator(const Log& log);
nvinfer1::IPluginCreatorInterface* spatial_creator(const Log& log);
nvinfer1::IPluginCreatorInterface* dual_creator(const Log& log);
nvinfer1::IPluginCreatorInterface* psroi_creator(const Log& log);

}  // namespace lesionkit::tensorrt
