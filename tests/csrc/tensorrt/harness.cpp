// Plays TensorRT for a library of plugins: loads it, gives it a logger, and calls the plugins.
//
// Structures of TensorRT's headers pass through as they are; the caller lays them out.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <string>

#include "expressions.h"

namespace {

// --- the logger, in the two layouts that TensorRT's has had ---

int version = 0;  // what getInferLibVersion() says
std::string messages;

void take(int severity, const char* message) {
  messages += std::to_string(severity) + " " + message + "\n";
}

struct Logger10 {
  virtual void log(int severity, const char* message) noexcept { take(severity, message); }
  virtual ~Logger10() = default;
} logger10;
struct Finder10 {
  virtual void* findLogger() { return &logger10; }
  virtual ~Finder10() = default;
} finder10;

struct Logger11 : IVersionedInterface {
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
  virtual void log(int severity, const char* message) noexcept { take(severity, message); }
} logger11;
struct Finder11 : IVersionedInterface {
  InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILoggerFinder", 1, 0}; }
  virtual void* findLogger() { return &logger11; }
} finder11;
struct FinderOfNothing : Finder11 {
  void* findLogger() override { return nullptr; }
} finder_of_nothing;

template <class Capability>
Capability* ability(IPluginV3* plugin, PluginCapabilityType type) {
  return static_cast<Capability*>(plugin->getCapabilityInterface(type));
}
IPluginV3OneCore* core(IPluginV3* plugin) {
  return ability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
}
IPluginV3OneBuild* build(IPluginV3* plugin) {
  return ability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime* runtime(IPluginV3* plugin) {
  return ability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

std::string described(const InterfaceInfo& info) {
  return std::string(info.kind) + " " + std::to_string(info.major) + "." +
         std::to_string(info.minor);
}

std::string answer;  // keeps what the last call returned
const char* keep(std::string text) {
  answer = std::move(text);
  return answer.c_str();
}

IPluginCreatorInterface* const* creators;
int32_t num_creators;

IPluginCreatorV3One* creator(int i) { return static_cast<IPluginCreatorV3One*>(creators[i]); }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int getInferLibVersion() { return version; }

// Says it is TensorRT `pretended` (110400 is 11.4.0), which a library of plugins may ask, and has
// the logger of TensorRT `layout`: 10, 11, or 0 for none.
const char* harness_load(const char* path, int pretended, int layout) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return keep(dlerror());
  const auto set_finder = reinterpret_cast<void (*)(void*)>(dlsym(library, "setLoggerFinder"));
  using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);
  const auto get_creators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
  if (!set_finder || !get_creators) return keep("entry points are missing");
  version = pretended;
  set_finder(layout == 0 ? &finder_of_nothing : layout == 10 ? (void*)&finder10 : &finder11);
  creators = get_creators(num_creators);
  return nullptr;
}

// "name version namespace interface" of the creators, a line each.
const char* harness_creators() {
  std::string text;
  for (int i = 0; i < num_creators; ++i) {
    text += std::string(creator(i)->getPluginName()) + " " + creator(i)->getPluginVersion() + " " +
            creator(i)->getPluginNamespace() + " " + described(creators[i]->getInterfaceInfo()) +
            "\n";
  }
  return keep(text);
}

const PluginFieldCollection* harness_field_names(int i) { return creator(i)->getFieldNames(); }

// What was logged since the last call: a severity and a message a line.
const char* harness_log() {
  std::string taken;
  taken.swap(messages);
  return keep(taken);
}

IPluginV3* harness_create(int i, const PluginFieldCollection* fields, int phase) {
  return creator(i)->createPlugin("layer", fields, static_cast<TensorRTPhase>(phase));
}
IPluginV3* harness_clone(IPluginV3* plugin) { return plugin->clone(); }
IPluginV3* harness_attach(IPluginV3* plugin) { return runtime(plugin)->attachToContext(nullptr); }
void harness_destroy(IPluginV3* plugin) { delete plugin; }

// The interfaces that the plugin has, and what it says of itself.
const char* harness_describe(IPluginV3* plugin) {
  return keep(described(plugin->getInterfaceInfo()) + ", " +
              described(core(plugin)->getInterfaceInfo()) + ", " +
              described(build(plugin)->getInterfaceInfo()) + ", " +
              described(runtime(plugin)->getInterfaceInfo()) + ", " +
              core(plugin)->getPluginName() + " " + core(plugin)->getPluginVersion() + " " +
              core(plugin)->getPluginNamespace() + ", outputs " +
              std::to_string(build(plugin)->getNbOutputs()) + ", workspace " +
              std::to_string(build(plugin)->getWorkspaceSize(nullptr, 0, nullptr, 0)));
}

const PluginFieldCollection* harness_fields(IPluginV3* plugin) {
  return runtime(plugin)->getFieldsToSerialize();
}

// The output's dimensions, comma-separated; null when the plugin refuses. An extent of -1 is not
// known, and called after its input and axis: i1d0.
const char* harness_output_shape(IPluginV3* plugin, const Dims* inputs, int num_inputs) {
  Builder builder;
  DimsExprs expressions[8];
  for (int i = 0; i < num_inputs; ++i) {
    expressions[i].nbDims = inputs[i].nbDims;
    for (int k = 0; k < inputs[i].nbDims; ++k) {
      const auto name = "i" + std::to_string(i) + "d" + std::to_string(k);
      const int64_t extent = inputs[i].d[k];
      expressions[i].d[k] = extent < 0 ? builder.unknown(name) : builder.number(extent);
    }
  }
  DimsExprs output;
  if (build(plugin)->getOutputShapes(expressions, num_inputs, nullptr, 0, &output, 1, builder)) {
    return nullptr;
  }
  std::string text;
  for (int k = 0; k < output.nbDims; ++k) {
    text += (k ? "," : "") + static_cast<const Expression*>(output.d[k])->text();
  }
  return keep(text);
}

// The output's type; -1 when the plugin refuses.
int harness_output_type(IPluginV3* plugin, const DataType* inputs, int num_inputs) {
  DataType output;
  const bool refused = build(plugin)->getOutputDataTypes(&output, 1, inputs, num_inputs);
  return refused ? -1 : static_cast<int>(output);
}

bool harness_supports(IPluginV3* plugin, int position, const DynamicPluginTensorDesc* tensors,
                      int num_inputs) {
  return build(plugin)->supportsFormatCombination(position, tensors, num_inputs, 1);
}

int harness_configure(IPluginV3* plugin, const DynamicPluginTensorDesc* tensors, int num_inputs) {
  return build(plugin)->configurePlugin(tensors, num_inputs, tensors + num_inputs, 1);
}

// Inputs and the output are in one array.
int harness_shape_change(IPluginV3* plugin, const PluginTensorDesc* tensors, int num_inputs) {
  return runtime(plugin)->onShapeChange(tensors, num_inputs, tensors + num_inputs, 1);
}
int harness_enqueue(IPluginV3* plugin, const PluginTensorDesc* tensors, int num_inputs,
                    const void* const* inputs, void* output, void* stream) {
  return runtime(plugin)->enqueue(tensors, tensors + num_inputs, inputs, &output, nullptr,
                                  static_cast<cudaStream_t>(stream));
}

}  // extern "C"
#pragma GCC visibility pop
