"""The child process of ``build_engine``: ONNX in, plan out; see lesionkit/deploy/build.py.

It reads a request as JSON from standard input, writes the plan, and a report as JSON: about the
plan, or {"error": ...}.
"""

import ctypes
import json
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionkit.deploy.plugins import load_plugins
from lesionkit.deploy.runtimes import check_compute_capability, create, load_runtime, log_of
from lesionkit.errors import InputError

PR_SET_PDEATHSIG = 1


def main() -> None:
    # A build takes minutes and all memory it gets; nobody would read its plan.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    request = json.load(sys.stdin)
    try:
        trt = load_runtime(request["runtime"], "Builder")
        report = build(trt, **request["build"])
    except InputError as error:
        report = {"error": str(error)}
    Path(request["report"]).write_text(json.dumps(report), encoding="utf-8")


def build(
    trt: ModuleType,
    onnx: str,
    plan: str,
    batch: list[int],
    compute_capability: list[int] | None,
    needs_plugins: bool,
) -> dict[str, Any]:
    """Build a plan and write it; see ``build_engine``.

    Returns:
        What is known about the plan now: {"runtime", "version", "compute_capability", "batch",
        "plugin_layers"}, the last by the names of their nodes.

    Raises InputError with TensorRT's own words.
    """
    if needs_plugins:
        load_plugins(trt.__name__)
    log = log_of(trt)
    builder = create(trt, "Builder")
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(onnx):
        raise InputError(f"{onnx}: {trt.__name__} cannot parse it: {_parse_problem(parser, log)}")
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, "TF32"):  # on by default, and it keeps 10 bits of float32's 23
        config.clear_flag(trt.BuilderFlag.TF32)
    if compute_capability is not None:
        _set_compute_capability(trt, config, compute_capability)
    config.add_optimization_profile(_profile(builder, network, batch, onnx))
    log.take()
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        reasons = "; ".join(log.take())
        raise InputError(f"{onnx}: {trt.__name__} cannot build an engine: {reasons}")
    Path(plan).write_bytes(serialized)
    return {
        "runtime": trt.__name__,
        "version": trt.__version__,
        "compute_capability": compute_capability,
        "batch": batch,
        "plugin_layers": _plugin_layers(trt, network),
    }


def _plugin_layers(trt: ModuleType, network: Any) -> list[str]:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [layer.name for layer in layers if layer.type == trt.LayerType.PLUGIN_V3]


def _network_flags(trt: ModuleType) -> int:
    """Strongly typed: precision is the ONNX file's. Where there is no flag, all networks are."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse_problem(parser: Any, log: Any) -> str:
    problems = (parser.get_error(index) for index in range(parser.num_errors))
    lines = [f"{p.node_operator() or 'the file'}: {p.desc()}" for p in problems]
    lines += [line for line in log.take() if line.startswith("lesionkit ")]  # of its plugins
    if any("Plugin not found" in line or "not supported" in line for line in lines):
        lines.append(
            "an operator is neither TensorRT's nor among the plugins that this version takes from "
            "lesionkit, which `lesionkit doctor` lists; the native form needs no plugins"
        )
    return "; ".join(" ".join(line.split()) for line in lines)


def _set_compute_capability(trt: ModuleType, config: Any, wanted: list[int]) -> None:
    check_compute_capability(trt, wanted)
    config.num_compute_capabilities = len(wanted)
    for index, number in enumerate(wanted):
        target = getattr(trt.ComputeCapability, f"SM{number}")
        if not config.set_compute_capability(target, index):
            reasons = "; ".join(log_of(trt).take())
            raise InputError(f"compute_capability {number}: {trt.__name__} refuses it: {reasons}")


def _profile(builder: Any, network: Any, batch: list[int], onnx: str) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        first, *rest = tensor.shape
        if first != -1 or -1 in rest:
            raise InputError(
                f"{onnx}: input {tensor.name} is {tuple(tensor.shape)}; its first size, the batch, "
                "must be dynamic (-1) and the others fixed"
            )
        profile.set_shape(tensor.name, *((size, *rest) for size in batch))
    return profile
