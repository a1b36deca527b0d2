import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lesionkit


def run(code: str) -> str:
    """What a fresh process prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules_after(code: str) -> set[str]:
    code += "\nimport sys; print('\\n', *(name for name in sys.modules if '.' not in name))"
    return set(run(code).splitlines()[-1].split())


def test_import_is_light():
    heavy = {
        "torchvision", "scipy", "PIL", "pydicom", "SimpleITK", "matplotlib", "rich", "typer",
        "lightning_fabric", "triton", "cupy", "safetensors",
    }  # fmt: skip
    added = modules_after("import torch, lesionkit") - modules_after("import torch, numpy")
    assert not added & heavy
    assert "lesionkit" in added


def test_import_alone_loads_neither_torch_nor_numpy():
    assert not modules_after("import lesionkit") & {"torch", "numpy"}


def test_the_command_line_answers_without_torch():
    code = "from lesionkit.cli.main import main"
    for arguments in (["--help"], ["--version"], ["train", "--help"]):
        code += f"\nassert main({arguments}) == 0"
    assert not modules_after(code) & {"torch", "SimpleITK", "scipy"}


def test_every_public_name_exists():
    for name in lesionkit.__all__:
        assert getattr(lesionkit, name) is not None
    assert {*lesionkit.__all__} <= {*dir(lesionkit)}
    with pytest.raises(AttributeError, match="module 'lesionkit' has no attribute 'attention'"):
        _ = lesionkit.attention


def test_type_checkers_see_what_runs():
    """Names for type checkers stand in a block of imports that never runs."""
    tree = ast.parse(Path(lesionkit.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: import_module(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in lesionkit.__all__:
        assert getattr(homes[name], name) is getattr(lesionkit, name)


@pytest.mark.parametrize(
    "code",
    [
        "import lesionkit; lesionkit.contextual_attention",
        "from lesionkit import *; assert ContextualAttention and models",
        "import torch, lesionkit",
    ],
)
def test_first_use_registers_the_ops(code):
    run(f"{code}\nimport torch; torch.ops.lesionkit.contextual_attention.default")


def test_first_use_inside_a_compiled_function():
    run(
        "import lesionkit, torch\n"
        "f = lambda x: lesionkit.contextual_attention(x, x) + 1\n"
        "x = torch.randn(1, 3, 2, 4, 4)\n"
        "y = torch.compile(f, fullgraph=True, backend='aot_eager')(x)\n"
        "torch.testing.assert_close(y, f(x))"
    )


def test_kernels_folder_is_not_importable_by_its_bare_name():
    # Run from elsewhere, or the checkout's own folder is found as a namespace package.
    code = "import importlib.util, lesionkit.kernels; print(importlib.util.find_spec('kernels'))"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stdout.strip() == "None"
