"""The calibrators beside the peer's, on the same model and samples."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnxruntime.quantization import calibrate as peer
from onnxruntime.quantization.CalTableFlatBuffers import TrtTable
from scipy import stats

from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.ort import calibrate as ours
from quantlab.ort import write_calibration_table
from tests.ort.models import quiet_peer, reader, samples, save, small_model

CASES = [
    ("MinMax", {}),
    ("MinMax", {"symmetric": True}),
    ("MinMax", {"moving_average": True, "averaging_constant": 0.3}),
    ("MinMax", {"max_intermediate_outputs": 4}),
    ("MinMax", {"per_channel": True}),
    ("MinMax", {"per_channel": True, "symmetric": True, "moving_average": True}),
    ("Percentile", {}),
    ("Percentile", {"symmetric": False, "percentile": 99.0, "num_bins": 100}),
    ("Entropy", {"num_bins": 300}),
    ("Distribution", {}),
    ("Distribution", {"scenario": "p3", "num_bins": 600}),
]


@pytest.fixture
def made(tmp_path):
    path = save(small_model(), tmp_path / "float.onnx")

    def make(room, method, options, op_types=None):
        return room.create_calibrator(
            path,
            op_types,
            str(tmp_path / f"{room.__name__}.onnx"),
            room.CalibrationMethod[method],
            extra_options=options,
        )

    return make


def same_ranges(mine, theirs):
    assert mine.calibration_method.name == theirs.calibration_method.name
    assert set(mine) == set(theirs)
    for name, data in theirs.items():
        for a, b in zip(mine[name].range_value, data.range_value, strict=True):
            assert (a.dtype, np.ravel(a).tobytes()) == (b.dtype, np.ravel(b).tobytes()), name


# The peer fails on a second call by channel, and when it has forgotten all samples of one.
OFTEN = [case for case in CASES if not {"per_channel", "max_intermediate_outputs"} & set(case[1])]


@pytest.mark.parametrize(
    ("method", "options", "calls"), [*((*case, 1) for case in CASES), *((*case, 3) for case in OFTEN)], ids=str
)
def test_ranges_are_the_peers(made, method, options, calls):
    found = []
    for room in (ours, peer):
        with quiet_peer():
            one = made(room, method, options)
            for call in range(calls):
                one.collect_data(reader(samples(9, seed=call), room.CalibrationDataReader))
            found.append(one.compute_data())
    same_ranges(*found)
    if method == "Distribution":
        mine, theirs = found
        for name, data in theirs.items():
            for key in ("avg", "std", "hist", "hist_edges"):
                assert np.asarray(getattr(mine[name], key)).tobytes() == np.asarray(getattr(data, key)).tobytes()


def test_channels_may_be_collected_in_several_calls(made):
    """The peer takes the truth value of an array there, and fails."""
    theirs = made(peer, "MinMax", {"per_channel": True})
    theirs.collect_data(reader(samples(3, 0)))
    with pytest.raises(ValueError, match="truth value of an array"):
        theirs.collect_data(reader(samples(3, 1)))
    one = made(ours, "MinMax", {"per_channel": True})
    for seed in (0, 1):
        one.collect_data(reader(samples(3, seed), ours.CalibrationDataReader))
    low = np.minimum(*(np.concatenate([s["x"] for s in samples(3, seed)]).min((0, 2, 3)) for seed in (0, 1)))
    assert one.compute_data()["x"].lowest.tolist() == low.tolist()


def test_chosen_operators(made):
    for op_types in (["Conv"], ["MatMul", "Relu"], []):
        found = []
        for room in (ours, peer):
            one = made(room, "MinMax", {}, op_types)
            one.collect_data(reader(samples(2)))
            found.append(one.compute_data())
        same_ranges(*found)


def test_a_calibrator_can_be_poked_at(made):
    one = made(ours, "MinMax", {})
    one.set_execution_providers(["CPUExecutionProvider"])
    names, typed = one.select_tensors_to_calibrate(small_model_inferred())
    assert names == {"x", "c", "r", "p", "f", "out"} <= set(typed)
    assert {output.name for output in one.get_augment_model().graph.output} == names - {"x"}
    assert {output.name for output in onnx.load(one.augmented_model_path).graph.output} == names - {"x"}
    assert one.infer_session.get_inputs()[0].name == "x"
    with pytest.raises(DataError, match=r"^no data: call collect_data first$"):
        one.compute_data()
    with pytest.raises(DataError, match=r"^no data: the reader gave no sample$"):
        one.collect_data(reader([]))


def small_model_inferred():
    return onnx.shape_inference.infer_shapes(small_model())


def test_a_subclass_says_what_to_collect(tmp_path):
    class Largest(ours.CalibraterBase):
        def collect_data(self, data_reader):
            self.largest = {}
            for values in self.run(data_reader):
                for name, value in values.items():
                    self.largest[name] = max(float(value.max()), self.largest.get(name, -np.inf))

    one = Largest(save(small_model(), tmp_path / "m.onnx"), augmented_model_path=tmp_path / "a.onnx")
    with pytest.raises(DataError, match=r"^the model is not open: call augment_graph\(\) and create_inference_session"):
        one.collect_data(reader(samples(1)))
    one.augment_graph()
    one.create_inference_session()
    one.collect_data(reader(samples(2)))
    assert one.largest["x"] == max(sample["x"].max() for sample in samples(2))
    with pytest.raises(NotImplementedError, match="Largest does not say what follows"):
        one.compute_data()


def test_what_a_calibrator_refuses(tmp_path):
    path = save(small_model(), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match=r"^unknown calibration method 'MinMix'; did you mean 'MinMax'\? \(allowed: "):
        ours.create_calibrator(path, calibrate_method="MinMix")
    with pytest.raises(OptionError, match=r"^unknown option 'percentil'; did you mean 'percentile'"):
        ours.create_calibrator(path, extra_options={"percentil": 1})
    with pytest.raises(OptionError, match="averaging_constant must be a number from 0 to 1, got 2"):
        ours.MinMaxCalibrater(path, moving_average=True, averaging_constant=2)
    with pytest.raises(OptionError, match=r"^model_path must be the path of a model, got a ModelProto$"):
        ours.MinMaxCalibrater(small_model())
    with pytest.raises(OptionError, match="unknown method 'entropi'; did you mean 'entropy'"):
        ours.HistogramCalibrater(path, method="entropi")
    with pytest.raises(DataError, match=r"^no data: call collect first$"):
        ours.HistogramCollector("entropy", False, 128, 128, 99.0, "same").compute_collection_result()


VALUES = st.floats(-100, 100, width=16)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(hnp.arrays(np.float32, st.integers(1, 30), elements=VALUES), min_size=1, max_size=3),
    st.sampled_from([("entropy", False), ("percentile", False), ("percentile", True), ("distribution", False)]),
)
def test_collectors_are_the_peers(calls, how):
    method, symmetric = how
    bins = 512 if method == "distribution" else 40
    mine, theirs = (room.HistogramCollector(method, symmetric, bins, 16, 97.0, "same") for room in (ours, peer))
    try:
        with quiet_peer():
            for values in calls:
                theirs.collect({"t": values})
            wanted = theirs.compute_collection_result()["t"]
    except (ValueError, MemoryError, IndexError):
        return
    for values in calls:
        mine.collect({"t": values})
    for a, b in zip(mine.get_histogram_dict()["t"], theirs.get_histogram_dict()["t"], strict=True):
        # The sign of a zero aside: there is one zero on a grid.
        assert (np.asarray(a) + 0).tobytes() == (np.asarray(b) + 0).tobytes()
    found = mine.compute_collection_result()["t"]
    if method == "distribution":
        assert (found.avg.tobytes(), found.std.tobytes()) == (wanted.avg.tobytes(), wanted.std.tobytes())
    elif wanted[0] <= wanted[1]:
        assert [float(end) for end in found[:2]] == [float(end) + 0.0 for end in wanted[:2]]


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, 20, elements=VALUES), hnp.arrays(np.float32, 20, elements=VALUES))
def test_steps_of_collectors_are_the_peers(first, second):
    found = []
    for room in (ours, peer):
        one = room.HistogramCollector("entropy", False, 32, 16, 99.0, "same")
        with quiet_peer():
            one.collect({"t": first})
            merged = one.merge_histogram(
                one.get_histogram_dict()["t"], second, second.min(), second.max(), np.abs(second).max()
            )
            found.append([*merged, *one.get_entropy_threshold(merged, 16)])
    for mine, theirs in zip(*found, strict=True):
        assert (np.asarray(mine) + 0).tolist() == (np.asarray(theirs) + 0).tolist()


def test_caches_go_both_ways(tmp_path):
    data = {"a": (np.float32([-1.5]), np.float32([2])), "b": (np.float32([0]), np.float32([7]))}
    for writer, other in ((ours, peer), (peer, ours)):
        path = tmp_path / f"{writer.__name__}.json"
        writer.save_tensors_data(writer.TensorsData(writer.CalibrationMethod.MinMax, data), path)
        same_ranges(writer.load_tensors_data(path), other.load_tensors_data(path))
    texts = [json.loads((tmp_path / f"{room.__name__}.json").read_text()) for room in (ours, peer)]
    assert texts[0] == texts[1]
    with pytest.raises(FileNotFoundError, match=r"^there is no calibration cache '.*none.json'$"):
        ours.load_tensors_data(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match="is no calibration cache"):
        ours.load_tensors_data(tmp_path / "bad.json")


def test_percentiles_keep_their_histograms(made):
    """The peer keeps two counts in the place of counts and edges."""
    kept = {}
    for room in (ours, peer):
        with quiet_peer():
            one = made(room, "Percentile", {})
            one.collect_data(reader(samples(2)))
            kept[room] = one.compute_data()["c"]
    assert (kept[ours].hist.shape, kept[ours].bins.shape) == ((2048,), (2049,))
    assert (np.ndim(kept[peer].hist), np.ndim(kept[peer].bins)) == (0, 0)
    assert [kept[peer].hist, kept[peer].bins] == kept[ours].hist[:2].tolist()


def test_data_of_tensors():
    one = ours.TensorData(lowest=np.float32(-1), highest=np.float32(2))
    assert one.to_dict() == {"lowest": -1, "highest": 2, "CLS": "TensorData"}
    with pytest.raises(AttributeError, match=r"this TensorData has no 'avg'; it has lowest, highest"):
        one.avg_std  # noqa: B018
    with pytest.raises(ValueError, match=r"^a TensorData has no 'low' \(allowed: "):
        ours.TensorData(low=1)
    with pytest.raises(ValueError, match=r"^'lowest' must be float16 or float32 of NumPy, got float$"):
        ours.TensorData(lowest=1.0)
    tensors = ours.TensorsData(ours.CalibrationMethod.MinMax, {"a": one})
    with pytest.raises(RuntimeError, match="there is no tensor 'b' to change"):
        tensors["b"] = one
    with pytest.raises(TypeError, match="tensor 'b' needs a TensorData, or a tuple of 2 or 4, got a tuple of 3"):
        ours.TensorsData(ours.CalibrationMethod.MinMax, {"b": (1, 2, 3)})


def test_a_table_for_tensorrt(tmp_path):
    tensors = ours.TensorsData(
        ours.CalibrationMethod.MinMax,
        {"a": (np.float32([-5]), np.float32([2])), "b": (np.float32([0]), np.float32([7]))},
    )
    with pytest.warns(QuantlabWarning, match=r"the peer writes the upper end, .* 'a' has 5.0, not 2.0"):
        write_calibration_table(tensors, tmp_path)
    assert (tmp_path / "calibration.cache").read_text() == "a 5.0\nb 7.0\n"
    peers = peer.TensorsData(peer.CalibrationMethod.MinMax, {"b": (np.float32([0]), np.float32([7]))})
    mine = ours.TensorsData(ours.CalibrationMethod.MinMax, {"b": (np.float32([0]), np.float32([7]))})
    for folder, write, given_ in (("p", peer_table, peers), ("q", write_calibration_table, mine)):
        (tmp_path / folder).mkdir()
        write(given_, str(tmp_path / folder))
    for name in ("calibration.json", "calibration.cache"):
        assert (tmp_path / "q" / name).read_bytes() == (tmp_path / "p" / name).read_bytes(), name
    table = TrtTable.TrtTable.GetRootAsTrtTable((tmp_path / "q" / "calibration.flatbuffers").read_bytes(), 0)
    assert (table.DictLength(), table.Dict(0).Key(), table.Dict(0).Value()) == (1, b"b", b"7.0")


def peer_table(tensors, folder):
    from onnxruntime.quantization import write_calibration_table as write

    write(tensors, folder)


counts = hnp.arrays(np.float32, 8, elements=st.floats(0.125, 100, width=16))


@settings(deadline=None, max_examples=50)
@given(counts, counts, st.sampled_from([None, 2.0]))
def test_relative_entropy(p, q, base):
    assert float(ours.entropy(p, q, base)) == pytest.approx(float(peer.entropy(p, q, base)), rel=1e-5, abs=1e-6)
    p[0] = 0
    assert float(ours.entropy(p, q, base)) == pytest.approx(stats.entropy(p, q, base), rel=1e-4, abs=1e-6)
    with np.errstate(all="ignore"):
        assert np.isinf(peer.entropy(p, q, base))
    with pytest.raises(OptionError, match="base must be a number above 0 or none, got 0"):
        ours.entropy(p, q, 0)


def test_readers():
    class Reader(ours.CalibrationDataReader):
        def get_next(self):
            return None

    assert isinstance(reader([]), ours.CalibrationDataReader)
    assert list(iter(Reader().get_next, None)) == []
    with pytest.raises(NotImplementedError):
        len(Reader())
    with pytest.raises(NotImplementedError):
        Reader().set_range(0, 1)
    with pytest.raises(TypeError, match="abstract"):
        ours.CalibrationDataReader()
