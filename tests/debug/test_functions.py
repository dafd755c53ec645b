"""The six functions of the peer's debugger: its names and layouts, and its numbers where they are right."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnxruntime.quantization import qdq_loss_debug as peer

import quantlab
import quantlab.debug as ours
from quantlab import demo
from quantlab.arrays import ratio_from_db
from quantlab.backend.peer import peer_quantize_static
from quantlab.errors import DataError, ModelError, QuantlabWarning, ShapeError

SAMPLES = [{"image": image[None]} for image in demo.digits().test_images[:5]]


class Reader:
    """A reader as the peer's users write it."""

    def __init__(self):
        self.rewind()

    def rewind(self):
        self.left = iter(SAMPLES)

    def get_next(self):
        return next(self.left, None)

    def __iter__(self):
        return iter(self.get_next, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES)
    onnx.save(result.prepared.model, folder / "float.onnx")
    onnx.save(result.model, folder / "qdq.onnx")
    onnx.save(peer_quantize_static(result.prepared.model, SAMPLES, {}), folder / "peer.onnx")
    return folder


def activations(module, files, qdq):
    """Run the four functions that are about activations."""
    found = []
    for name in ("float.onnx", qdq):
        augmented = str(files / f"augmented_{module.__name__}_{name}")
        module.modify_model_output_intermediate_tensors(str(files / name), augmented)
        found.append(module.collect_activations(augmented, Reader()))
    return found


def norm(x):
    return math.sqrt(math.fsum(float(value) ** 2 for value in np.ravel(x)))


@pytest.mark.parametrize("qdq", ["qdq.onnx", "peer.onnx"])
def test_weights_are_those_of_the_peer(files, qdq):
    mine = ours.create_weight_matching(files / "float.onnx", files / qdq)
    other = peer.create_weight_matching(str(files / "float.onnx"), str(files / qdq))
    assert mine.keys() == other.keys()
    for name, pair in mine.items():
        assert list(pair) == ["float", "dequantized"]
        np.testing.assert_array_equal(pair["float"], other[name]["float"])
        np.testing.assert_allclose(pair["dequantized"], other[name]["dequantized"], rtol=1e-6)
    errors, others = ours.compute_weight_error(mine), peer.compute_weight_error(other)
    assert errors == pytest.approx(others, abs=0.01)
    for name, decibels in errors.items():
        x, y = mine[name]["float"].astype(np.float64), mine[name]["dequantized"].astype(np.float64)
        assert decibels == pytest.approx(20 * math.log10(norm(x) / norm(x - y)), abs=1e-9)
        assert ratio_from_db(decibels) == pytest.approx(norm(x) / norm(x - y))


def weight_models(kind, zero, axis=None, block_size=None):
    """Return MatMul models with a float weight and with its integers, and the values that these stand for."""
    w = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    info = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "INT4": (-8, 7), "UINT4": (0, 15)}
    qmin, qmax = info[kind]
    shape = {None: (), 0: (8, 1), 1: (1, 6)}[axis] if block_size is None else (8 // block_size, 6)
    scale = np.full(shape, 2.2 * np.abs(w).max() / (qmax - qmin), np.float32)
    if block_size is None and axis is not None:
        scale *= np.linspace(1, 1.5, scale.size, dtype=np.float32).reshape(shape)
    wide = np.repeat(scale, block_size, 0) if block_size else scale
    q = np.clip(np.rint(w / wide) + zero, qmin, qmax)
    numbers = scale if block_size else scale.reshape(-1) if axis is not None else scale
    code = getattr(TensorProto, kind)
    made = helper.make_tensor("w_quantized", code, w.shape, q.astype(np.int64).ravel().tolist())
    zeros = helper.make_tensor("z", code, numbers.shape, np.full(numbers.size, zero).tolist())
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])
    options = ({"axis": axis} if axis is not None else {}) | ({"block_size": block_size} if block_size else {})
    nodes = [helper.make_node("DequantizeLinear", ["w_quantized", "s", "z"], ["wd"], **options)]
    nodes.append(helper.make_node("MatMul", ["x", "wd"], ["y"], name="m"))
    tensors = [made, numpy_helper.from_array(numbers, "s"), zeros]
    opset = [helper.make_opsetid("", 21)]
    rounded = helper.make_model(helper.make_graph(nodes, "q", [given], [out], tensors), opset_imports=opset)
    plain = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    weights = [numpy_helper.from_array(w, "w")]
    exact = helper.make_model(helper.make_graph(plain, "f", [given], [out], weights), opset_imports=opset)
    return exact, rounded, w, ((q - zero) * wide.astype(np.float64))


CASES = [("INT8", 0), ("INT8", -100), ("UINT8", 128), ("INT16", 0), ("INT4", 0), ("INT4", -3), ("UINT4", 8)]


@pytest.mark.parametrize(("kind", "zero"), CASES)
@pytest.mark.parametrize("layout", [{}, {"axis": 1}, {"axis": 0}, {"axis": 0, "block_size": 4}])
def test_every_type_zero_point_and_granularity_is_right(kind, zero, layout):
    exact, rounded, w, stands_for = weight_models(kind, zero, **layout)
    found = ours.create_weight_matching(exact, rounded)
    np.testing.assert_allclose(found["w"]["dequantized"], stands_for, rtol=1e-6)
    want = 20 * math.log10(norm(w) / norm(w - stands_for.astype(np.float32).astype(np.float64)))
    assert ours.compute_weight_error(found)["w"] == pytest.approx(want, abs=1e-4)


def test_integers_do_not_wrap_as_those_of_the_peer_do(tmp_path):
    exact, rounded, *_ = weight_models("UINT8", 128)
    paths = [str(tmp_path / name) for name in ("float.onnx", "qdq.onnx")]
    for model, path in zip((exact, rounded), paths, strict=True):
        onnx.save(model, path)
    (mine,), (other,) = (
        list(module.compute_weight_error(module.create_weight_matching(*paths)).values()) for module in (ours, peer)
    )
    assert mine > 40
    assert other < 0


def test_more_bits_are_better():
    errors = {}
    for kind in ("INT4", "INT8", "INT16"):
        exact, rounded, *_ = weight_models(kind, 0)
        errors[kind] = ours.compute_weight_error(ours.create_weight_matching(exact, rounded))["w"]
    assert errors["INT16"] > errors["INT8"] + 40 > errors["INT4"] + 60


def test_an_error_function_of_ones_own():
    pairs = {"w": {"float": np.ones(2), "dequantized": np.zeros(2)}}
    assert ours.compute_weight_error(pairs, lambda x, y: float(np.abs(x - y).max())) == {"w": 1.0}


@pytest.mark.parametrize("qdq", ["qdq.onnx", "peer.onnx"])
def test_activations_have_the_layout_and_bits_of_the_peer(files, qdq):
    for mine, other in zip(activations(ours, files, qdq), activations(peer, files, qdq), strict=True):
        assert mine.keys() == other.keys()
        for name, arrays in mine.items():
            assert len(arrays) == len(SAMPLES)
            assert [array.tobytes() for array in arrays] == [array.tobytes() for array in other[name]]
            assert {array.shape for array in arrays} == {array.shape for array in other[name]}


@pytest.mark.parametrize("qdq", ["qdq.onnx", "peer.onnx"])
def test_errors_are_those_of_the_peer_but_for_removed_relus(files, qdq):
    exact, rounded = activations(ours, files, qdq)
    mine = ours.compute_activation_error(ours.create_activation_matching(rounded, exact))
    other = peer.compute_activation_error(peer.create_activation_matching(rounded, exact))
    assert mine.keys() == other.keys()
    for name, errors in mine.items():
        assert list(errors) == ["qdq_err", "xmodel_err"]
        assert errors["xmodel_err"] == pytest.approx(other[name]["xmodel_err"], abs=1e-3)
        if "relu" in name:  # the peer counts as error what the Relu cuts off
            assert other[name]["qdq_err"] < 5
            assert errors["qdq_err"] > 40
        elif errors["qdq_err"] < 300:
            assert errors["qdq_err"] == pytest.approx(other[name]["qdq_err"], abs=1e-3)


def test_one_sample_at_a_time_gives_the_same_numbers(files):
    exact, rounded = activations(ours, files, "qdq.onnx")
    want = ours.compute_activation_error(ours.create_activation_matching(rounded, exact))
    saved = [str(files / f"augmented_quantlab.debug_{name}") for name in ("qdq.onnx", "float.onnx")]
    got = ours.stream_activation_error(*saved, Reader())
    assert got.keys() == want.keys()
    for name, errors in want.items():
        assert got[name] == pytest.approx(errors, rel=1e-12)


def test_without_a_float_model_there_is_no_cross_model_error(files):
    _, rounded = activations(ours, files, "qdq.onnx")
    errors = ours.compute_activation_error(ours.create_activation_matching(rounded))
    assert all(list(each) == ["qdq_err"] for each in errors.values())
    with pytest.raises(KeyError):
        peer.compute_activation_error(peer.create_activation_matching(rounded))
    plain = ours.create_activation_matching(dict(rounded))
    assert plain.keys() == peer.create_activation_matching(rounded).keys()


def test_tensors_without_a_partner_are_named(files):
    exact, rounded = activations(ours, files, "qdq.onnx")
    fewer = {name: values for name, values in exact.items() if name != "pool_out"}
    with pytest.warns(QuantlabWarning, match=r"1 activations have no partner in the float model: 'pool_out' \("):
        found = ours.create_activation_matching(dict(rounded), fewer)
    assert "float" not in found["pool_out"]
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[N,1,8,8] image) => (float[N,1,8,8] logits) '
    text += "{logits = Abs(image)}"
    with pytest.warns(QuantlabWarning, match=r"12 weights have no partner in the float model: 'stem_conv.weight_quant"):
        assert ours.create_weight_matching(parser.parse_model(text), onnx.load(files / "qdq.onnx")) == {}


def test_operators_may_be_chosen(files, tmp_path):
    ours.modify_model_output_intermediate_tensors(files / "float.onnx", tmp_path / "a.onnx", ["MaxPool"])
    assert set(ours.collect_activations(tmp_path / "a.onnx", Reader())) == {"residual_out", "pool_out"}
    with pytest.raises(ModelError, match=r"no node of MaxPol; did you mean 'MaxPool'\? \(it has: Add, Conv"):
        ours.modify_model_output_intermediate_tensors(files / "float.onnx", tmp_path / "b.onnx", ["MaxPol"])
    ours.modify_model_output_intermediate_tensors(files / "float.onnx", tmp_path / "c.onnx", None, True)
    assert (tmp_path / "c.onnx.data").exists()
    assert len(ours.collect_activations(tmp_path / "c.onnx", SAMPLES)["logits"]) == len(SAMPLES)


def test_noise_ratios():
    ratio = ours.compute_signal_to_quantization_noice_ratio
    x = [np.array([3.0, 4.0], np.float32), np.array([0.0], np.float32)]
    assert ratio(x, [x[0], np.array([0.5])]) == 20.0
    assert ratio(x[0], x[0]) == math.inf
    with pytest.raises(ShapeError, match="cannot compare 2 arrays with 1: give as many on both sides"):
        ratio(x, x[:1])
    with pytest.raises(ShapeError, match=r"cannot compare shape \(2,\) with \(1,\) \(array 0\)"):
        ratio(x, x[::-1])


def test_debugging_in_one_call(files, capsys):
    before = set(files.iterdir())
    found = ours.debug(files / "float.onnx", files / "qdq.onnx", Reader())
    lines = capsys.readouterr().out.splitlines()
    assert lines == list(found.lines())
    name, decibels = min(found.weights.items(), key=lambda pair: pair[1])
    assert lines[0] == f"Cross model error of '{name}': {decibels:.3f} dB"
    assert f"QDQ error of 'logits': {found.activations['logits']['qdq_err']:.3f} dB" in lines
    worst = [min(errors.values()) for errors in found.activations.values()]
    assert lines[len(found.weights)].endswith(f"{min(worst):.3f} dB")
    assert set(files.iterdir()) == before
    ours.debug(files / "float.onnx", files / "qdq.onnx", Reader(), keep=True, write=lambda line: None)
    assert {path.name for path in set(files.iterdir()) - before} == {"float.save_tensors.onnx", "qdq.save_tensors.onnx"}
    bare = ours.debug(files / "float.onnx", files / "qdq.onnx", write=lambda line: None)
    assert bare.weights == found.weights
    assert bare.activations == {}


def test_debugging_takes_an_unprepared_model(files):
    lines = []
    found = ours.debug(quantlab.load(demo.float_model()), onnx.load(files / "qdq.onnx"), Reader(), write=lines.append)
    assert all("xmodel_err" in errors for errors in found.activations.values())


def test_a_reader_that_is_spent_is_refused(files, tmp_path):
    ours.modify_model_output_intermediate_tensors(files / "float.onnx", tmp_path / "a.onnx")
    with pytest.raises(
        DataError, match="no data is collected: the reader gave nothing, or the model saves nothing; rewind"
    ):
        ours.collect_activations(tmp_path / "a.onnx", [])
