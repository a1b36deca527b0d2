import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from lesionkit.deploy import plugins
from lesionkit.deploy.plugins import LIBRARY, PLUGINS, REGISTER, load_plugins
from lesionkit.errors import InputError

from . import fake_tensorrt as fake


def creator(name, namespace="lesionkit"):
    return SimpleNamespace(name=name, plugin_namespace=namespace)


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """The registry of a fake runtime, and a library that gives it all plugins."""
    creators = [creator("PSRoIPool", "of another"), creator("ROIAlign_TRT", "")]
    loaded = []

    def load_library(path):
        loaded.append(path)
        creators.extend(creator(name) for name in PLUGINS)

    found = SimpleNamespace(all_creators=creators, load_library=load_library, loaded=loaded)
    trt = fake.runtime()
    trt.get_plugin_registry = lambda: found
    library = tmp_path / "library.so"
    library.touch()
    monkeypatch.setattr(plugins, "LIBRARY", library)
    monkeypatch.setattr(plugins, "load_runtime", lambda name, needs: trt)
    return found


def test_loads_once(registry):
    for _ in range(3):
        assert load_plugins() == [*PLUGINS]
    assert registry.loaded == [str(plugins.LIBRARY)]


def test_registered_by_somebody_else(registry):
    registry.all_creators.extend(creator(name) for name in PLUGINS)
    plugins.LIBRARY.unlink()
    assert load_plugins() == [*PLUGINS]


def test_no_library(registry):
    plugins.LIBRARY.unlink()
    with pytest.raises(InputError, match=r"library\.so is not built; set TENSORRT_INCLUDE_DIR"):
        load_plugins()


def test_library_that_is_refused(registry):
    registry.load_library = lambda path: registry.all_creators.append(creator("DualAttention"))
    with pytest.raises(InputError) as caught:
        load_plugins()
    assert "tensorrt 10.1 does not take ContextualAttention, PSRoIPool, Spatial" in str(
        caught.value
    )


def in_a_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def needs(path):
    return pytest.mark.skipif(
        not path.exists(), reason=f"{path.name} is not built (TENSORRT_INCLUDE_DIR)"
    )


def needs_runtime(name):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@needs(LIBRARY)
@pytest.mark.parametrize("name", ["tensorrt_rtx", "tensorrt_lean"])
def test_real_registries(name):
    needs_runtime(name)
    code = (
        f"from lesionkit.deploy.plugins import load_plugins as l; print(l('{name}') == l('{name}'))"
    )
    code += f"; print(*l('{name}'))"
    assert in_a_process(code) == (["True", " ".join(PLUGINS)], "")


@needs(REGISTER)
@pytest.mark.parametrize("name", ["tensorrt_rtx", "tensorrt_lean"])
def test_library_that_registers_when_it_is_opened(name):
    """As Triton Inference Server opens it: dlopen, and no more."""
    needs_runtime(name)
    code = (
        f"import ctypes, {name} as trt; ctypes.CDLL('{REGISTER}'); "
        "from lesionkit.deploy.plugins import registered_plugins; print(*registered_plugins(trt)); "
        f"from lesionkit.deploy.plugins import load_plugins; print(*load_plugins('{name}'))"
    )
    assert in_a_process(code) == ([" ".join(PLUGINS)] * 2, "")


@needs(REGISTER)
def test_library_that_registers_says_when_there_is_nothing_to_register_with():
    _, said = in_a_process(f"import ctypes; ctypes.CDLL('{REGISTER}')")
    assert "there is no TensorRT in this process" in said


@needs(REGISTER)
def test_library_that_registers_says_when_there_are_no_plugins(tmp_path):
    needs_runtime("tensorrt_lean")
    alone = tmp_path / REGISTER.name
    alone.write_bytes(REGISTER.read_bytes())
    _, said = in_a_process(f"import ctypes, tensorrt_lean; ctypes.CDLL('{alone}')")
    assert f"did not take the plugins of {tmp_path}/{LIBRARY.name}" in said


@needs(LIBRARY)
def test_two_runtimes_in_one_process_have_a_log_each():
    """The one that is loaded last gets no messages about the other's plugins."""
    needs_runtime("tensorrt_rtx")
    needs_runtime("tensorrt_lean")
    code = (
        "import numpy, tensorrt_rtx as trt; from lesionkit.deploy.plugins import load_plugins; "
        "from lesionkit.deploy.runtimes import create, log_of; builder = create(trt, 'Builder'); "
        "load_plugins('tensorrt_rtx'); load_plugins('tensorrt_lean'); log_of(trt).take(); "
        "creator = trt.get_plugin_registry().get_creator('SpatialAttention', '1', 'lesionkit'); "
        "no_fields = trt.PluginFieldCollection([]); "
        "print(creator.create_plugin('layer', no_fields, trt.TensorRTPhase.BUILD)); "
        "print(log_of(trt).take())"
    )
    ((plugin, messages), _) = in_a_process(code)
    assert plugin == "None"
    assert "lesionkit SpatialAttention: field temperature is missing" in messages
