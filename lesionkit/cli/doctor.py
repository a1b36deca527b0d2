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
}


def doctor() -> None:
    """Show versions, the CPU library, backends and devices."""
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
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            print(f"cuda:{index:<13} {torch.cuda.get_device_name(index)}")
    else:
        built = torch.version.cuda
        why = f"no device (PyTorch is built for CUDA {built})" if built else "PyTorch without CUDA"
        print(f"CUDA               {why}")
