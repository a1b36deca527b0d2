"""Loads the plugins into the registry of a TensorRT runtime and prints what it then has, as JSON.

python -m tests.csrc.tensorrt_registry tensorrt_lean liblesionkit_tensorrt.so
"""

import json
import sys
from importlib import import_module

import numpy as np

FIELDS = {
    "ContextualAttention": {"temperature": 2.0},
    "SpatialAttention": {"temperature": 3.0},
    "DualAttention": {"contextual_temperature": 2.0, "spatial_temperature": 3.0},
    "PSRoIPool": {"output_size": 7, "spatial_scale": 0.125, "convention": "rfcn"},
}


def main(runtime: str, library: str) -> dict:
    trt = import_module(runtime)
    registry = trt.get_plugin_registry()
    kinds = trt.PluginFieldType

    def field(name, value):
        if isinstance(value, str):
            return trt.PluginField(name, np.frombuffer(value.encode(), np.int8), kinds.CHAR)
        if isinstance(value, int):
            return trt.PluginField(name, np.array([value], np.int32), kinds.INT32)
        return trt.PluginField(name, np.array([value], np.float32), kinds.FLOAT32)

    def create(name, values, phase=trt.TensorRTPhase.BUILD):
        creator = registry.get_creator(name, "1", "lesionkit")
        fields = [field(*item) for item in values.items()]
        return creator.create_plugin("layer", trt.PluginFieldCollection(fields), phase)

    def described(name, values):
        plugin = create(name, values)
        core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
        build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
        return [core.plugin_name, core.plugin_version, core.plugin_namespace, build.num_outputs]

    before = {creator.name for creator in registry.all_creators}
    handles = [registry.load_library(library), registry.load_library(library)]
    fields = {
        creator.name: {field.name: field.type.name for field in creator.field_names}
        for creator in registry.all_creators
        if creator.plugin_namespace == "lesionkit"
    }
    found = {
        "before": sorted(before & set(FIELDS)),
        "handles": [handle is not None for handle in handles],
        "fields": fields,
        "plugins": {name: described(name, values) for name, values in FIELDS.items()},
        "runtime": create("PSRoIPool", FIELDS["PSRoIPool"], trt.TensorRTPhase.RUNTIME) is not None,
        "bad": create("PSRoIPool", FIELDS["PSRoIPool"] | {"convention": "RFCN"}) is not None,
        "elsewhere": registry.get_creator("PSRoIPool", "1", "") is not None,
    }
    registry.deregister_library(handles[0])
    left = {creator.name for creator in registry.all_creators}
    return found | {"after": sorted(left & set(FIELDS))}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
