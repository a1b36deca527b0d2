import json
import re

import pytest

from lesionkit.deploy import plugins
from lesionkit.deploy.plan import write_description
from lesionkit.deploy.triton_repository import model_config, write_triton_repository
from lesionkit.errors import InputError
from lesionkit.models import PRESETS

from .graphs import set_metadata, write_graph

pytest.importorskip("onnx")
CONFIG = PRESETS["tiny"].to_dict()
ABOUT = {
    "version": "1.2",
    "preset": 'the "tiny" one',
    "form": "native",
    "precision": "float32",
    "image_size": [128, 96],
    "class_names": ["lesion", "Läsion\\"],
    "preprocessing": CONFIG["preprocessing"],
    "config": CONFIG,
}


def parse(text):
    """config.pbtxt as Triton reads it: the part of its ModelConfig message that we use."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    messages = {
        "Shape": [("shape", "int64", True)],
        "Tensor": [
            ("name", "string", False),
            ("data_type", "DataType", False),
            ("dims", "int64", True),
            ("reshape", "Shape", False),
        ],
        "Batching": [("preferred_batch_size", "int32", True)],
        "Value": [("string_value", "string", False)],
        "Parameter": [("key", "string", False), ("value", "Value", False)],  # an entry of a map
        "ModelConfig": [
            ("name", "string", False),
            ("platform", "string", False),
            ("max_batch_size", "int32", False),
            ("input", "Tensor", True),
            ("output", "Tensor", True),
            ("dynamic_batching", "Batching", False),
            ("parameters", "Parameter", True),
        ],
    }
    numbers = {"int32": 5, "int64": 3, "string": 9, "DataType": 14}
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for number, kind in enumerate(("INVALID", "FP16", "FP32", "INT32")):
        kinds.value.add(name=f"TYPE_{kind}", number=number)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            added = message.field.add(
                name=field, number=number, label=3 if repeated else 1, type=numbers.get(kind, 11)
            )
            if kind not in ("int32", "int64", "string"):
                added.type_name = f".t.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))
    return text_format.Parse(text, kind())


@pytest.mark.parametrize("precision,number", [("float32", 2), ("float16", 1)])
def test_model_config(precision, number):
    config = parse(model_config({**ABOUT, "precision": precision}, 5))
    assert config.name == "lesion_detector"
    assert config.platform == "tensorrt_plan"
    assert config.max_batch_size == 5
    assert config.HasField("dynamic_batching")
    (images,) = config.input
    assert (images.name, images.data_type, [*images.dims]) == ("images", number, [3, 3, 128, 96])
    outputs = {o.name: (o.data_type, [*o.dims], o.HasField("reshape")) for o in config.output}
    assert outputs == {
        "boxes": (2, [100, 4], False),
        "scores": (2, [100], False),
        "count": (3, [1], True),  # Triton has no empty shape, so it is told to drop this one
    }
    assert [*config.output[2].reshape.shape] == []
    said = {p.key: p.value.string_value for p in config.parameters}
    assert said.keys() == {"version", "preset", "preprocessing", "class_names"}
    assert (said["version"], said["preset"]) == ("1.2", 'the "tiny" one')
    assert json.loads(said["preprocessing"]) == json.loads(json.dumps(ABOUT["preprocessing"]))
    assert json.loads(said["class_names"]) == ABOUT["class_names"]


def test_no_batches_of_one():
    config = parse(model_config(ABOUT, 1))
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


@pytest.fixture
def onnx(tmp_path):
    return set_metadata(write_graph(tmp_path / "a.onnx"), ABOUT)


@pytest.fixture
def plan(tmp_path):
    """A plan as TensorRT would have built it."""
    path = tmp_path / "a.plan"
    path.write_bytes(b"a plan")
    detector = json.loads(json.dumps({"format": "lesionkit-onnx-1", **ABOUT}))
    write_description(path, {"runtime": "tensorrt", "batch": [1, 2, 6], "detector": detector})
    return path


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_with_a_plan(onnx, plan, tmp_path):
    out = tmp_path / "out"
    write_triton_repository(onnx, out, plan=plan)
    model = "models/lesion_detector"
    expected = ["README.md", "detector.onnx", f"{model}/1/model.plan", f"{model}/config.pbtxt"]
    assert files(out) == expected
    assert (out / model / "1/model.plan").read_bytes() == b"a plan"
    assert (out / "detector.onnx").read_bytes() == onnx.read_bytes()
    assert parse((out / model / "config.pbtxt").read_text()).max_batch_size == 6
    readme = (out / "README.md").read_text()
    assert "Build the plan, for another GPU or release" in readme
    assert "plugins" not in readme


def test_without_a_plan(onnx, tmp_path):
    out = tmp_path / "out"
    write_triton_repository(onnx, out, batch=(1, 2, 3))
    assert not [*out.rglob("*.plan")]
    readme = (out / "README.md").read_text()
    assert "Build the plan, before the first start" in readme
    (command,) = re.findall(r"trtexec (.*?)\n```", readme, flags=re.DOTALL)
    options = dict(option.split("=", 1) for option in command.split() if "=" in option)
    assert options == {
        "--onnx": "/lesionkit/detector.onnx",
        "--minShapes": "images:1x3x3x128x96",
        "--optShapes": "images:2x3x3x128x96",
        "--maxShapes": "images:3x3x3x128x96",
        "--saveEngine": "/lesionkit/models/lesion_detector/1/model.plan",
    }
    assert "--model-repository=/lesionkit/models" in readme
    assert not re.search(r"[{}]|None", re.sub(r"```python.*?```", "", readme, flags=re.DOTALL))


def test_plugins_travel_along(onnx, tmp_path, monkeypatch):
    set_metadata(onnx, {**ABOUT, "form": "plugin"})
    libraries = {name: tmp_path / f"{name.lower()}.so" for name in ("LIBRARY", "REGISTER")}
    for name, path in libraries.items():
        path.write_text(name)
        monkeypatch.setattr(f"lesionkit.deploy.triton_repository.{name}", path)
        monkeypatch.setattr(plugins, name, path)
    out = tmp_path / "out"
    write_triton_repository(onnx, out)
    assert {path.name: path.read_text() for path in (out / "plugins").iterdir()} == {
        "library.so": "LIBRARY",
        "register.so": "REGISTER",
    }
    readme = (out / "README.md").read_text()
    assert "--dynamicPlugins=/lesionkit/plugins/library.so" in readme
    assert "--backend-config=tensorrt,plugins=/lesionkit/plugins/register.so" in readme
    libraries["LIBRARY"].unlink()
    with pytest.raises(InputError, match=r"library\.so is not built.*or export the native form"):
        write_triton_repository(onnx, tmp_path / "other")


def test_plans_that_triton_cannot_load(onnx, plan, tmp_path):
    out = tmp_path / "out"
    write_description(plan, {"runtime": "tensorrt_rtx"})
    with pytest.raises(InputError, match=r"a\.plan: is a plan of tensorrt_rtx, and Triton"):
        write_triton_repository(onnx, out, plan=plan)
    write_description(plan, {"runtime": "tensorrt", "batch": [1, 1, 1], "detector": {}})
    with pytest.raises(InputError, match=r"a\.plan: was not built from this ONNX file"):
        write_triton_repository(onnx, out, plan=plan)
    with pytest.raises(InputError, match=r"batch \(2, 2, 3\): Triton sends single samples"):
        write_triton_repository(onnx, out, batch=(2, 2, 3))
    assert not out.exists()
