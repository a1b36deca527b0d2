"""``lesionkit doctor``: what is installed and what can run."""

import platform

OPTIONAL = {
    "pydicom": "reading DICOM",
    "pylibjpeg": "compressed DICOM",
    "pylibjpeg-openjpeg": "JPEG 2000 DICOM",
    "SimpleITK": "reading NIfTI, NRRD, MHA",
    "scipy": "synthetic data",
    "pillow": "DeepLesion slices, pictures",
    "matplotlib": "plots",
    "rich": "progress bars",
    "typer": "this command line",
    "lightning-fabric": "training",
    "triton": "backend triton",
    "cupy-cuda13x": "backend nvrtc, CuPy arrays",
    "onnx": "export",
    "onnxscript": "export",
}


def doctor() -> None:
    """Show versions, the CPU library, backends, TensorRT and devices."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    import lesionkit
    from lesionkit.ops import backends

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    print(f"lesionkit          {lesionkit.__version__}")
    print(f"Python             {platform.python_version()} on {platform.platform()}")
    print(f"torch              {torch.__version__}")
    for name in ("torchvision", "numpy", "safetensors"):
        print(f"{name:18} {installed(name) or 'NOT INSTALLED'}")
    for name, use in OPTIONAL.items():
        print(f"{name:18} {installed(name) or 'not installed'} ({use})")
    if backends.has_library():
        print(f"CPU library        runs with {torch.ops.lesionkit.cpu_instruction_set()}")
    print(f"CPU threads        {torch.get_num_threads()}")
    for name in backends.BACKENDS:
        problems = {kind: backends.why_not(name, kind) for kind in ("cpu", "cuda")}
        runs_on = [kind.upper() for kind, problem in problems.items() if problem is None]
        if runs_on:
            print(f"backend {name:10} available for {' and '.join(runs_on)} tensors")
        else:
            print(f"backend {name:10} no: {problems['cuda']}")
    for line in _tensorrt():
        print(line)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            print(f"cuda:{index:<13} {torch.cuda.get_device_name(index)}")
    else:
        built = torch.version.cuda
        why = f"no device (PyTorch is built for CUDA {built})" if built else "PyTorch without CUDA"
        print(f"CUDA               {why}")


def _tensorrt() -> list[str]:
    """A line for each TensorRT runtime with what is in its registry, and one for the plugins."""
    from lesionkit.deploy import plugins, runtimes
    from lesionkit.errors import InputError

    lines, absent = [], plugins.why_no_library()
    for name in runtimes.RUNTIMES:
        problem = runtimes.why_not(name)
        if problem is not None:
            lines.append(f"{name:18} {problem}")
            continue
        trt = runtimes.load_runtime(name)
        use = "builds and runs plans" if hasattr(trt, "Builder") else f"runs {runtimes.LEAN}"
        own = len(trt.get_plugin_registry().all_creators)
        try:
            found = f"lesionkit's {', '.join(plugins.load_plugins(name))}"
        except InputError as error:
            found = f"none of lesionkit's ({error})" if not absent else "none of lesionkit's"
        lines.append(f"{name:18} {trt.__version__}, {use}; plugins: {own} of its own, {found}")
    return [*lines, f"TensorRT plugins   {f'no: {absent}' if absent else plugins.LIBRARY}"]
