"""The plugins' fields: written and read again, and what is refused; and how they log."""

import struct

import pytest

from tests.csrc.tensorrt_registry import FIELDS
from tests.csrc.tensorrt_tools import LIBRARY, Library, needs_headers, needs_library

pytestmark = [needs_headers, needs_library]

FLOAT64_FIELD, INT64_FIELD = 2, 10


@pytest.fixture(scope="module")
def library():
    return Library(LIBRARY)


@pytest.fixture(autouse=True)
def nothing_logged_before(library):
    library.log()


OTHER_VALUES = {
    "ContextualAttention": {"temperature": 0.7},
    "SpatialAttention": {"temperature": 1e-30},
    "DualAttention": {"contextual_temperature": 0.1, "spatial_temperature": 1e30},
    "PSRoIPool": {"output_size": 3, "spatial_scale": 0.3, "convention": "torchvision"},
}


@pytest.mark.parametrize("values", [FIELDS, OTHER_VALUES])
@pytest.mark.parametrize("name", FIELDS)
def test_fields_survive_serialisation(library, name, values):
    expected = {
        key: struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value
        for key, value in values[name].items()
    }
    first = library.create(name, **values[name])
    again = library.create_from(name, first.raw_fields(), phase=1)
    copies = [first.clone(), first.attached(), again]
    first.destroy()
    for plugin in copies:
        assert plugin.fields() == expected
        assert list(plugin.fields()) == list(library.field_names(name))
        plugin.destroy()
    assert library.log() == []


def test_text_may_count_its_closing_zero(library):
    closed = (6, b"torchvision\0", 12)
    plugin = library.create("PSRoIPool", **FIELDS["PSRoIPool"] | {"convention": closed})
    assert plugin.fields()["convention"] == "torchvision"


def float64(value):
    return FLOAT64_FIELD, struct.pack("d", value), 1


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_must_be_given(library, name):
    for field in FIELDS[name]:
        rest = {key: value for key, value in FIELDS[name].items() if key != field}
        assert library.create(name, **rest) is None
        assert f"1 lesionkit {name}: field {field} is missing" in library.log()[0]


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("ContextualAttention", {"temprature": 2.0}, "there is no field temprature; the fields"),
        ("ContextualAttention", {"temperature": 2}, "temperature must be float32, got int32"),
        ("ContextualAttention", {"temperature": float64(2)}, "must be float32, got float64"),
        ("SpatialAttention", {"temperature": 0.0}, "temperature must be finite and above 0, got 0"),
        ("SpatialAttention", {"temperature": -1.0}, "must be finite and above 0, got -1"),
        ("SpatialAttention", {"temperature": float("nan")}, "finite and above 0, got nan"),
        ("DualAttention", {"spatial_temperature": float("inf")}, "spatial_temperature must be fin"),
        ("DualAttention", {"spatial_temperature": (1, bytes(8), 2)}, "must be one value, got 2"),
        ("DualAttention", {"spatial_temperature": (1, None, 1)}, "spatial_temperature has no data"),
        ("PSRoIPool", {"output_size": 0}, "output_size must be 1 to 32768, got 0"),
        ("PSRoIPool", {"output_size": 32769}, "output_size must be 1 to 32768, got 32769"),
        ("PSRoIPool", {"output_size": (INT64_FIELD, bytes(8), 1)}, "must be int32, got int64"),
        ("PSRoIPool", {"spatial_scale": 0.0}, "spatial_scale must be finite and above 0, got 0"),
        ("PSRoIPool", {"convention": "RFCN"}, '"rfcn" or "torchvision", got "RFCN"'),
        ("PSRoIPool", {"convention": ""}, '"rfcn" or "torchvision", got ""'),
        ("PSRoIPool", {"convention": (6, b"rfcn", -1)}, "field convention must be one value"),
    ],
)
def test_bad_fields(library, name, given, message):
    assert library.create(name, **FIELDS[name] | given) is None
    (line,) = library.log()
    assert line.startswith(f"1 lesionkit {name}: ")
    assert message in line


@pytest.mark.parametrize(
    "version, logger",
    # TensorRT 10 and 11, TensorRT-RTX 1.4 and 1.5
    [(100000, 10), (101601, 10), (110000, 11), (110400, 11), (10400, 10), (10500, 11), (10701, 11)],
)
def test_speaks_to_the_logger_of_every_version(version, logger):
    library = Library(LIBRARY, version, logger)
    assert library.create("SpatialAttention", temperature=-1.0) is None
    (line,) = library.log()
    assert line.endswith("SpatialAttention: temperature must be finite and above 0, got -1")


def test_without_a_logger_it_writes_to_stderr(capfd):
    library = Library(LIBRARY, logger=0)
    assert library.create("SpatialAttention", temperature=-1.0) is None
    assert library.log() == []
    assert capfd.readouterr().err.startswith("lesionkit SpatialAttention: temperature must be")


def test_two_runtimes_in_one_process_have_a_log_each():
    """As tensorrt 10 and tensorrt_rtx 1.7 have, whose loggers are laid out in two ways."""
    both = [Library(LIBRARY, 101401, 10), Library(LIBRARY, 10701, 11)]
    both[0].call("load", str(LIBRARY).encode(), 101401, 10)  # once more, as its registry may
    for library, other in (both, both[::-1]):
        assert library.create("SpatialAttention", temperature=-1.0) is None
        plugin = library.create("SpatialAttention", temperature=1.0)
        for each in (plugin, plugin.clone(), plugin.attached()):
            assert each.shape_change((1, 2), (1, 2)) != 0
        first, *later = library.log()
        assert "temperature must be finite" in first
        assert len(later) == 3
        assert all("x must be [B, M, D, H, W], got [1, 2]" in line for line in later)
        assert other.log() == []
