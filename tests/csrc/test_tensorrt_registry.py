"""The plugins in the registries of real TensorRT runtimes, which have them without a GPU."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.csrc.emulated import ROOT
from tests.csrc.tensorrt_registry import FIELDS
from tests.csrc.tensorrt_tools import LIBRARY, needs_library

pytestmark = needs_library


@pytest.fixture(scope="module", params=["tensorrt_lean", "tensorrt_rtx"])
def run(request):
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    # A process of its own: a registry is one for all, and does not let go of everything.
    return subprocess.run(
        [sys.executable, "-m", "tests.csrc.tensorrt_registry", request.param, str(LIBRARY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def found(run):
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_loads_once(found):
    assert found["before"] == []
    assert found["handles"] == [True, False]
    assert found["after"] == []


def test_declares_its_fields(found):
    assert found["fields"] == {
        "ContextualAttention": {"temperature": "FLOAT32"},
        "SpatialAttention": {"temperature": "FLOAT32"},
        "DualAttention": {"contextual_temperature": "FLOAT32", "spatial_temperature": "FLOAT32"},
        "PSRoIPool": {"output_size": "INT32", "spatial_scale": "FLOAT32", "convention": "CHAR"},
    }


def test_creates_plugins(found):
    assert found["plugins"] == {name: [name, "1", "lesionkit", 1] for name in FIELDS}
    assert found["runtime"]
    assert not found["elsewhere"]


def test_refuses_a_bad_field_and_says_why(found, run):
    assert not found["bad"]
    assert 'PSRoIPool: convention must be "rfcn" or "torchvision", got "RFCN"' in run.stderr
