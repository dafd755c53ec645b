"""Ranges on disk: every bit comes back, and the peer's own code reads what is written here and writes what is read."""

import contextlib
import io
import json
import re
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, quantize_static, write_calibration_table
from onnxruntime.quantization.calibrate import (
    CalibrationMethod,
    MinMaxCalibrater,
    TensorData,
    TensorsData,
    create_calibrator,
    load_tensors_data,
    save_tensors_data,
)
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

from quantlab.arrays import Range
from quantlab.calibration import (
    MinMax,
    RangeTable,
    load_ranges,
    save_ranges,
    save_statistics,
    table_formats,
)
from quantlab.calibration.tables import checked_maximum, format_of, largest
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.graph.files import load

EXACT = ["json", "npz"]
MAXIMUM = ["onnxruntime-flatbuffers", "onnxruntime-text", "tensorrt"]

# Lone surrogates included: a name in a broken model may be any text.
any_name = st.text(st.characters(exclude_categories=()))
plain_name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n:\0"), min_size=1)


@st.composite
def ranges(draw, widths=(16, 32, 64), shapes=((), (1,), (3,), (0,))):
    width, shape = draw(st.sampled_from(widths)), draw(st.sampled_from(shapes))
    number = st.floats(width=width, allow_nan=False, allow_infinity=False)
    ends = [draw(st.lists(number, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))) for _ in range(2)]
    one, other = (np.array(end, f"f{width // 8}").reshape(shape) for end in ends)
    return Range(np.minimum(one, other), np.maximum(one, other))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def tables(draw):
    found = draw(st.dictionaries(any_name, ranges(), max_size=4))
    sources = {name: draw(st.text()) for name in found if draw(st.booleans())}
    return RangeTable(ranges=found, sources=sources, meta=draw(st.dictionaries(st.text(), json_values, max_size=3)))


def bits(table):
    """Everything a table holds, down to the sign of zero and the type of an end."""
    return {
        name: (one.dtype, one.lo.shape, one.lo.tobytes(), one.hi.tobytes()) for name, one in table.ranges.items()
    }, (dict(table.sources), dict(table.meta))


@pytest.mark.parametrize("name", EXACT)
@given(table=tables())
def test_every_bit_comes_back(name, table):
    form = table_formats[name]
    content = form.write(table, "absolute")
    assert form.claims(content)
    assert bits(form.read(content)) == bits(table)
    backwards = RangeTable(
        ranges=dict(reversed(table.ranges.items())), sources=dict(reversed(table.sources.items())), meta=table.meta
    )
    assert form.write(backwards, "absolute") == content


@given(table=tables())
def test_onnxruntimes_json_keeps_both_ends_as_float32(table):
    too_large = [one for one in table.ranges.values() if one.dtype == np.float64 and abs(largest(one)) > 3.4028235e38]
    form = table_formats["onnxruntime"]
    if too_large:
        with pytest.raises(OptionError, match=r"^tensor .*: onnxruntime's cache holds float32 numbers: range "):
            form.write(table, "absolute")
        return
    read = form.read(form.write(table, "absolute"))
    for name, one in table.ranges.items():
        kind = np.float32 if one.dtype == np.float64 else one.dtype
        found = read.ranges[name]
        assert found.dtype == kind
        # It has no shape for a single channel.
        np.testing.assert_array_equal(found.lo.ravel(), one.lo.astype(kind).ravel())
        np.testing.assert_array_equal(found.hi.ravel(), one.hi.astype(kind).ravel())
        assert read.sources[name] == table.sources.get(name, "onnxruntime's calibration cache, MinMax") or (
            table.meta.get("rule") is not None
        )
    assert read.meta == table.meta


# The absolute maximum


def test_the_absolute_maximum_is_that_of_both_ends_and_all_channels():
    assert largest(Range(-5.0, 2.0)) == 5.0
    assert largest(Range(-5.0, 2.0), "onnxruntime") == 2.0
    assert largest(Range([-1.0, -7.0], [3.0, 2.0])) == 7.0
    assert largest(Range([-1.0, -7.0], [3.0, 2.0]), "onnxruntime") == 3.0
    assert largest(Range(-3.0, -2.0), "onnxruntime") == -2.0
    assert largest(Range(np.zeros(0), np.zeros(0))) == 0.0
    with pytest.raises(OptionError, match=r"^maximum must be one of 'absolute', 'onnxruntime', got 'abs'$"):
        checked_maximum("abs")


@pytest.mark.parametrize("name", MAXIMUM)
@given(found=st.dictionaries(plain_name, ranges(widths=(16, 32)), max_size=5))
def test_one_number_a_tensor_comes_back_as_a_range_about_zero(name, found):
    form = table_formats[name]
    # 127 times a 127th of the largest float32 is infinite.
    assume(name != "tensorrt" or all(largest(one) < 3.4028e38 for one in found.values()))
    content = form.write(RangeTable(ranges=found), "absolute")
    read = form.read(content)
    assert set(read.ranges) == set(found)
    for tensor, one in found.items():
        wanted = max([0.0, *np.abs(one.lo).ravel().tolist(), *np.abs(one.hi).ravel().tolist()])
        if name == "tensorrt":
            wanted = float(np.float32(np.float32(wanted) / np.float32(127)) * np.float32(127))
        assert (read.ranges[tensor].lo.item(), read.ranges[tensor].hi.item()) == (-wanted, wanted)


# The peer: its code reads ours, ours reads its


SAMPLE = {
    "x": Range(np.float32(-5), np.float32(2)),
    "relu out": Range(np.float32(0), np.float32(0.1)),
    "/a/b:0": Range(np.float32(-1e-7), np.float32(0)),
    "ä": Range(np.float32(-3e38), np.float32(1)),
}


def peer_table(found):
    data = {name: TensorData(lowest=np.array(one.lo), highest=np.array(one.hi)) for name, one in found.items()}
    return TensorsData(CalibrationMethod.MinMax, data)


def peer_flatbuffers(content):
    """Read a table with the classes that the peer generated from its schema."""
    table = TrtTable.GetRootAsTrtTable(bytearray(content), 0)
    entries = [table.Dict(index) for index in range(table.DictLength())]
    return {entry.Key().decode(): entry.Value().decode() for entry in entries}


@given(found=st.dictionaries(any_name, ranges(widths=(16, 32), shapes=((), (3,))), max_size=4))
def test_the_peer_reads_our_json(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("peer") / "cache.json"
    save_ranges(path, RangeTable(ranges=found), format="onnxruntime")
    read = load_tensors_data(path)
    assert read.calibration_method == CalibrationMethod.MinMax
    assert set(read.keys()) == set(found)
    for name, one in found.items():
        lowest, highest = read[name].range_value
        assert lowest.dtype == one.dtype
        np.testing.assert_array_equal(lowest, one.lo)
        np.testing.assert_array_equal(highest, one.hi)


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("minmax", CalibrationMethod.MinMax),
        ("percentile", CalibrationMethod.Percentile),
        ("entropy", CalibrationMethod.Entropy),
        ("mse", CalibrationMethod.MinMax),
    ],
)
def test_the_peer_is_told_the_method_that_it_knows(tmp_path, rule, method):
    path = tmp_path / "cache.json"
    save_ranges(path, RangeTable(ranges=SAMPLE, meta={"rule": rule}), format="onnxruntime")
    assert load_tensors_data(path).calibration_method == method


@given(found=st.dictionaries(any_name, ranges(widths=(16, 32), shapes=((), (3,))), max_size=4))
def test_we_read_the_peers_json(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("peer") / "cache.json"
    save_tensors_data(peer_table(found), path)
    read = load_ranges(path)
    assert read.ranges == found
    assert all(read.ranges[name].dtype == one.dtype for name, one in found.items())
    assert set(read.sources.values()) <= {"onnxruntime's calibration cache, MinMax"}


def test_we_read_what_each_of_the_peers_calibrators_keeps(tmp_path):
    (tmp_path / "model.onnx").write_bytes(float_model())
    for method in CalibrationMethod:
        options = {"scenario": "same", "num_bins": 512} if method == CalibrationMethod.Distribution else {}
        with contextlib.redirect_stdout(io.StringIO()):
            calibrator = create_calibrator(
                tmp_path / "model.onnx",
                augmented_model_path=str(tmp_path / "augmented.onnx"),
                calibrate_method=method,
                extra_options=options,
            )
            calibrator.collect_data(Reader())
            wanted = calibrator.compute_data()
        save_tensors_data(wanted, tmp_path / "cache.json")
        read = load_ranges(tmp_path / "cache.json")
        assert {name: (one.lo.item(), one.hi.item()) for name, one in read.ranges.items()} == {
            name: (data.lowest.item(), data.highest.item()) for name, data in wanted.items()
        }
        assert set(read.sources.values()) == {f"onnxruntime's calibration cache, {method.name}"}


def test_we_read_the_peers_ranges_of_channels(tmp_path):
    (tmp_path / "model.onnx").write_bytes(float_model())
    calibrator = MinMaxCalibrater(
        tmp_path / "model.onnx", augmented_model_path=str(tmp_path / "augmented.onnx"), per_channel=True
    )
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(Reader())
    wanted = calibrator.compute_data()
    save_tensors_data(wanted, tmp_path / "cache.json")
    read = load_ranges(tmp_path / "cache.json")
    assert max(one.lo.size for one in read.ranges.values()) == 64
    for name, data in wanted.items():
        np.testing.assert_array_equal(read.ranges[name].lo.ravel(), np.ravel(data.lowest))
        np.testing.assert_array_equal(read.ranges[name].hi.ravel(), np.ravel(data.highest))


@pytest.mark.parametrize("as_dict", [True, False])
def test_we_read_the_three_files_of_write_calibration_table(tmp_path, as_dict):
    """Its maximum is right only where the upper end is the farther one, so such ranges are given to it."""
    right = {"x": Range(np.float32(-2), np.float32(5)), "a b": Range(np.float32(0), np.float32(0.1))}
    table = peer_table(right)
    write_calibration_table(dict(table.data) if as_dict else table, str(tmp_path))
    assert load_ranges(tmp_path / "calibration.json").ranges == right
    for file in ("calibration.flatbuffers", "calibration.cache"):
        read = load_ranges(tmp_path / file)
        assert {name: (one.lo.item(), one.hi.item()) for name, one in read.ranges.items()} == {
            "x": (-5.0, 5.0),
            "a b": (-float(np.float32(0.1)), float(np.float32(0.1))),
        }
        assert set(read.sources.values()) == {"absolute maximum in onnxruntime's calibration table"}


@given(found=st.dictionaries(plain_name | st.just(""), ranges(widths=(16, 32), shapes=((),)), max_size=6))
def test_the_peer_reads_our_flatbuffers(found):
    content = table_formats["onnxruntime-flatbuffers"].write(RangeTable(ranges=found), "absolute")
    assert peer_flatbuffers(content) == {name: repr(largest(one)) for name, one in found.items()}


def test_on_demand_our_tables_hold_what_the_peer_would_have_written(tmp_path):
    write_calibration_table(peer_table(SAMPLE), str(tmp_path))
    table = RangeTable(ranges=SAMPLE)
    ours = {name: table_formats[name].write(table, "onnxruntime") for name in MAXIMUM[:2]}
    assert ours["onnxruntime-text"] == (tmp_path / "calibration.cache").read_bytes()
    theirs = (tmp_path / "calibration.flatbuffers").read_bytes()
    assert peer_flatbuffers(ours["onnxruntime-flatbuffers"]) == peer_flatbuffers(theirs)
    # [-5, 2] became 2; the same tables of ours say 5 unless told otherwise.
    assert peer_flatbuffers(theirs)["x"] == "2.0"
    assert peer_flatbuffers(table_formats["onnxruntime-flatbuffers"].write(table, "absolute"))["x"] == "5.0"
    assert b"x 5.0\n" in table_formats["onnxruntime-text"].write(table, "absolute")


class Reader(CalibrationDataReader):
    """Some digits, one a sample."""

    def __init__(self):
        self.samples = iter([{"image": image[None]} for image in digits().train_images[:20]])

    def get_next(self):
        return next(self.samples, None)


def test_the_peer_quantizes_with_our_cache_as_with_its_own(tmp_path):
    (tmp_path / "model.onnx").write_bytes(float_model())
    quantize_static(
        tmp_path / "model.onnx", tmp_path / "own.onnx", Reader(), calibration_cache_path=tmp_path / "own.json"
    )
    table = load_ranges(tmp_path / "own.json")
    save_ranges(tmp_path / "ours.json", table, format="onnxruntime")
    quantize_static(
        tmp_path / "model.onnx", tmp_path / "ours.onnx", None, calibration_cache_path=tmp_path / "ours.json"
    )
    assert onnx.load(tmp_path / "ours.onnx") == onnx.load(tmp_path / "own.onnx")
    assert load(tmp_path / "ours.onnx").graph.node


# TensorRT


def provider_reads(content):
    """Read a native table as onnxruntime's TensorRT provider does: `ReadDynamicRange`, in Python."""
    header, *lines = content.decode().splitlines()
    assert "TRT-" in header.split(":")[0]
    found = {}
    for line in lines:
        name, digits_, *_ = line.split(":")
        found[name] = np.float32(struct.unpack(">f", int(digits_, 16).to_bytes(4, "big"))[0]) * np.float32(127)
    return found


def test_a_table_of_tensorrt(tmp_path):
    # 1.0 is 3f800000 and 0.5 is 3f000000 as float32, IEEE 754.
    table = RangeTable(ranges={"b": Range(-127.0, 3.0), "a": Range(0.0, 63.5), "zero": Range(0.0, 0.0)})
    path = tmp_path / "table"
    save_ranges(path, table, format="tensorrt")
    assert path.read_bytes() == b"TRT-8601-MinMaxCalibration\na: 3f000000\nb: 3f800000\nzero: 00000000\n"
    assert provider_reads(path.read_bytes()) == {"a": 63.5, "b": 127.0, "zero": 0.0}
    save_ranges(path, table, format="tensorrt", maximum="onnxruntime")
    assert provider_reads(path.read_bytes()) == pytest.approx({"a": 63.5, "b": 3.0, "zero": 0.0}, rel=1e-6)


def test_a_table_that_tensorrt_wrote_is_read(tmp_path):
    path = tmp_path / "calibration.cache"
    path.write_text("TRT-7103-EntropyCalibration2\nx: 3f800000\n(Unnamed Layer* 0) [Conv]_output: 3c010a14\ny:0: 1\n")
    read = load_ranges(path)
    # 0x3c010a14: exponent 2**-7, fraction 0x010a14.
    assert read.ranges["(Unnamed Layer* 0) [Conv]_output"].hi == np.float32((1 + 0x010A14 / 2**23) * 2.0**-7 * 127)
    assert read.ranges["x"] == Range(np.float32(-127), np.float32(127))
    assert read.ranges["y:0"].hi > 0  # a subnormal, without its leading zeros
    assert read.sources["x"] == "absolute maximum in TensorRT's calibration cache 'TRT-7103-EntropyCalibration2'"


def test_a_colon_in_a_name_is_warned_of_since_onnxruntime_cuts_there():
    table = RangeTable(ranges={"input:0": Range(-1.0, 1.0), "x": Range(0.0, 1.0)})
    with pytest.warns(
        QuantlabWarning, match=r"^1 of the tensors have a colon in their name, the first is 'input:0': onnxruntime"
    ):
        content = table_formats["tensorrt"].write(table, "absolute")
    assert set(table_formats["tensorrt"].read(content).ranges) == {"input:0", "x"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table_formats["onnxruntime-flatbuffers"].write(table, "absolute")


# Files


def test_the_ending_or_a_name_chooses_the_format():
    assert format_of("a/R.JSON") == "json"
    assert format_of("x.flatbuffers") == "onnxruntime-flatbuffers"
    assert format_of("x.anything", "tensorrt") == "tensorrt"
    with pytest.raises(OptionError, match=r"^the ending of 'calibration.cache' stands for no format of ranges"):
        format_of("calibration.cache")
    with pytest.raises(OptionError, match=r"^unknown format of ranges 'tensort'; did you mean 'tensorrt'\?"):
        format_of("x", "tensort")


def test_every_format_is_recognized_by_its_content(tmp_path):
    table = RangeTable(ranges={"x": Range(-1.0, 2.0), "CLS": Range(0.0, 1.0)}, sources={"x": '"CLS": "TensorData"'})
    for name, form in table_formats.items():
        content = form.write(table, "absolute")
        assert [other for other, one in table_formats.items() if one.claims(content)] == [name]
        (tmp_path / name).write_bytes(content)
        assert set(load_ranges(tmp_path / name).ranges) == {"x", "CLS"}
        assert load_ranges(tmp_path / name, format=name).ranges == load_ranges(tmp_path / name).ranges


@pytest.mark.parametrize("name", [*EXACT, "onnxruntime", "onnxruntime-flatbuffers"])
@given(data=st.data())
def test_a_truncated_file_is_refused(tmp_path_factory, name, data):
    content = table_formats[name].write(RangeTable(ranges=SAMPLE), "absolute").rstrip()
    cut = data.draw(st.integers(0, len(content.rstrip(b"\0")) - 1))
    path = tmp_path_factory.mktemp("cut") / "ranges"
    path.write_bytes(content[:cut])
    with pytest.raises(DataError, match=r"^range file '.*ranges' is truncated, corrupt or not of the format"):
        load_ranges(path, format=name)


@pytest.mark.parametrize("name", [None, *table_formats])
@given(content=st.binary(max_size=100) | st.text(max_size=40).map(str.encode))
def test_foreign_bytes_are_refused_or_read_as_text(tmp_path_factory, name, content):
    path = tmp_path_factory.mktemp("foreign") / "ranges"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        load_ranges(path, format=name)


def text_of(**entry):
    return json.dumps({"format": "quantlab ranges", "version": 1, "tensors": {"x": entry}})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "holds no ranges in any known format (known: json, npz, onnxruntime, "),
        (
            '{"a": 1}',
            ": it has no field \"format\" that says 'quantlab ranges': give what quantlab's save_ranges wrote",
        ),
        ('{"format": "quantlab ranges", "version": 2}', ": it has format version 2, and this quantlab reads version 1"),
        (text_of(lo=1.0, hi=-1.0), ": tensor 'x': range [1.0, -1.0] must be finite with its lower end first"),
        (text_of(lo=-1e39, hi=1.0, dtype="float32"), ": tensor 'x': range [-inf, 1.0] must be finite"),
        (text_of(lo=1.0), ": tensor 'x' must have the fields \"lo\" and \"hi\", got {'lo': 1.0}"),
        (text_of(lo="1", hi=2), ": an end of tensor 'x' must be a number, or a list of numbers, got '1'"),
        (text_of(lo=1, hi=2, dtype="int8"), ": tensor 'x' has the type 'int8' (allowed: float16, float32, float64)"),
        ("x 1.0\ny one\n", ": line 2 is no name with a number behind it: 'y one'"),
        ("x -2.0\n", ": tensor 'x' has the absolute maximum -2.0, which is negative: the file was written with max(lo"),
        ("x nan\n", ": tensor 'x': range [nan, nan] must be finite"),
        ("TRT-8601-X\nx: 3f80000g\n", ": line 2 is no name with a colon and 8 hexadecimal digits: 'x: 3f80000g'"),
        ("TRT-8601-X\nx 3f800000\n", ": line 2 is no name with a colon and 8 hexadecimal digits: 'x 3f800000'"),
        ("TRT-8601-X\nx: 7f800000\n", ": tensor 'x': range [-inf, inf] must be finite"),
        (
            '{"CLS": "TensorsData", "data": {"x": {"CLS": "TensorData"}}}',
            ": tensor 'x' must have the fields \"lowest\"",
        ),
        (
            '{"CLS": "TensorsData", "data": {"x": {"lowest": NaN, "highest": 1, "CLS": "TensorData"}}}',
            ": tensor 'x': range [nan, 1.0] must be finite",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, content, text):
    (tmp_path / "ranges").write_text(content)
    with pytest.raises(DataError) as caught:
        load_ranges(tmp_path / "ranges")
    assert str(caught.value).startswith(f"range file {str(tmp_path / 'ranges')!r}")
    assert text in str(caught.value)


def test_statistics_are_no_ranges(tmp_path):
    save_statistics(tmp_path / "seen.npz", {"x": MinMax().update(np.ones(1))})
    with pytest.raises(DataError, match="it holds statistics, not ranges: read it as statistics"):
        load_ranges(tmp_path / "seen.npz")


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match=r"^range file '.*none.json' cannot be read: No such file or directory$"):
        load_ranges(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"^range file '.*x.json' cannot be written: No such file or directory$"):
        save_ranges(tmp_path / "none" / "x.json", RangeTable(ranges={}))


@pytest.mark.parametrize("name", MAXIMUM)
def test_a_name_that_a_format_has_no_room_for(name):
    bad = {"onnxruntime-flatbuffers": "a\ud800"}.get(name, "a\nb")
    with pytest.raises(OptionError) as caught:
        table_formats[name].write(RangeTable(ranges={bad: Range(0.0, 1.0)}), "absolute")
    assert str(caught.value) == (
        f"tensor {bad!r} cannot be named in the format {name!r}, because of {bad[1]!r} in its name: "
        "use the format 'json', or rename the tensor"
    )


def test_what_is_beyond_float32_is_refused():
    with pytest.raises(OptionError, match=r"^tensor 'x' reaches 1e\+300, which is beyond float32: use the format"):
        table_formats["tensorrt"].write(RangeTable(ranges={"x": Range(-1e300, 0.0)}), "absolute")
    with pytest.raises(OptionError, match=r"^tensor 'x' reaches 3\.40282346\d*e\+38, which is beyond float32"):
        table_formats["tensorrt"].write(RangeTable(ranges={"x": Range(0.0, np.finfo(np.float32).max)}), "absolute")
    with pytest.raises(OptionError, match=r"^meta must hold plain JSON values only"):
        table_formats["json"].write(RangeTable(ranges={}, meta={"x": SimpleNamespace()}), "absolute")


def test_every_format_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text()
    section = text.partition("\n## Keeping ranges\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `.*$", section, re.MULTILINE)
    rows = [[cell.strip(" `") for cell in row.split("|")[1:3]] for row in listed]
    assert sorted(rows) == sorted([name, "".join(form.suffixes)] for name, form in table_formats.items())
