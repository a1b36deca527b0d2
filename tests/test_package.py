import subprocess
import sys

import lesionkit


def modules_after(code: str) -> set[str]:
    code += "\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_import_is_light():
    heavy = {
        "torchvision", "scipy", "PIL", "pydicom", "SimpleITK", "matplotlib", "rich", "typer",
        "lightning_fabric", "triton", "cupy", "safetensors",
    }  # fmt: skip
    added = modules_after("import lesionkit") - modules_after("import torch, numpy")
    assert not added & heavy
    assert "lesionkit" in added


def test_every_public_name_exists():
    for name in lesionkit.__all__:
        assert getattr(lesionkit, name) is not None


def test_kernels_folder_is_not_importable_by_its_bare_name():
    # Run from elsewhere, or the checkout's own folder is found as a namespace package.
    code = "import importlib.util, lesionkit.kernels; print(importlib.util.find_spec('kernels'))"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stdout.strip() == "None"
