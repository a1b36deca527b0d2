import sys
from types import ModuleType

import pytest

from lesionkit.deploy import runtimes
from lesionkit.deploy.runtimes import RUNTIMES, create, load_runtime, log_of, why_not
from lesionkit.errors import InputError

from . import fake_tensorrt as fake


@pytest.fixture
def installed(monkeypatch):
    """Pretend that just these modules are installed; an exception is what importing one raises."""

    def install(**modules):
        def find(name):
            module = modules.get(name)
            if module is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if isinstance(module, Exception):
                raise module
            return module

        monkeypatch.setattr(runtimes, "import_module", find)

    return install


def test_nothing_is_installed(installed):
    installed()
    for name, command in RUNTIMES.items():
        assert why_not(name) == f"is not installed; {command}"
    with pytest.raises(InputError, match="runtime auto: tensorrt is not installed; pip install"):
        load_runtime()


def test_first_that_can(installed):
    runner, builder = ModuleType("tensorrt"), ModuleType("tensorrt_rtx")
    runner.Runtime = builder.Runtime = builder.Builder = object
    installed(tensorrt=runner, tensorrt_rtx=builder)
    assert load_runtime() is runner
    assert load_runtime(needs="Builder") is builder
    with pytest.raises(InputError, match="runtime tensorrt: tensorrt has no Builder"):
        load_runtime("tensorrt", needs="Builder")


def test_bindings_without_libraries(installed):
    """The case of tensorrt-cu13-bindings alone."""
    missing = ImportError("libnvonnxparser.so.11: cannot open shared object file")
    installed(tensorrt=missing)
    with pytest.raises(InputError, match=r"does not load: libnvonnxparser\.so"):
        load_runtime("tensorrt")
    missing = ModuleNotFoundError("No module named 'tensorrt_libs'", name="tensorrt_libs")
    installed(tensorrt=missing)
    assert why_not("tensorrt") == "No module named 'tensorrt_libs'"


def test_unknown_name():
    with pytest.raises(InputError, match="runtime 'onnx': must be auto or one of tensorrt, "):
        load_runtime("onnx")


def test_log():
    trt = fake.runtime()
    log = log_of(trt)
    assert log_of(trt) is log
    for severity, text in enumerate(["first\n one", "second", "a warning"]):
        log.log(severity, text)
        log.log(severity, text)
    assert log.take() == ["first one", "second"]
    assert log.take() == ["TensorRT gives no reason"]


def test_no_driver():
    """TensorRT has no objects then, which its bindings report in their own way."""
    trt = fake.runtime()

    def build(log):
        log.log(fake.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Builder = build
    with pytest.raises(InputError, match=r"no Builder: CUDA init.*35; it needs an NVIDIA GPU"):
        create(trt, "Builder")


@pytest.mark.parametrize("name", RUNTIMES)
def test_real_ones(name):
    if why_not(name) is not None:
        pytest.skip(f"{name} {why_not(name)}")
    trt = load_runtime(name)
    assert trt is sys.modules[name]
    log = log_of(trt)
    assert isinstance(log, trt.ILogger)
    log.take()  # of other tests
    log.log(trt.ILogger.ERROR, "wrong")
    log.log(trt.ILogger.WARNING, "odd")
    assert log.take() == ["wrong"]
