"""The gated model: all gates off is the float model, all on the quantized one, and one gate is what NumPy says."""

import numpy as np
import onnx
import pytest

import quantlab
from quantlab import demo
from quantlab.arrays import fake_quant
from quantlab.backend import OrtBackend
from quantlab.debug.gates import PARTS, gated_model
from quantlab.errors import ModelError
from tests.debug.faults import model_of, node

PLAIN = OrtBackend(threads=1, optimize=False)
SAMPLES = [{"image": image[None]} for image in demo.digits().test_images[:6]]
LAYOUTS = {
    "per tensor": {},
    "per channel, uint8": {"per_channel": True, "activation_type": "uint8"},
    "16 bits": {"activation_type": "uint16"},
    "a pair for each reader, weights in float": {
        "extra_options": {"DedicatedQDQPair": True, "AddQDQPairToWeight": True}
    },
    "clipped": {"calibrate_method": "percentile", "extra_options": {"CalibPercentile": 99.0}},
    "a second grid": {
        "extra_options": {
            "TensorQuantOverrides": {
                "body_relu_out": [{"convert": {"quant_type": "UInt16", "recv_nodes": ["/residual/Add"]}}]
            }
        }
    },
}


def run(model, sample, gates=None):
    names = [value.name for value in model.graph.output]
    feed = sample if gates is None else {**sample, "quantlab_gates": gates}
    return list(PLAIN.open(model, names)(feed).values())


def both(result, sample):
    gated = gated_model(result.prepared.model, result.model)
    off, on = gated.setting(), gated.setting(range(len(gated.gates)))
    return run(gated.model, sample, off), run(gated.model, sample, on)


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_all_off_is_the_float_model_and_all_on_the_quantized_one(options):
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES, **options)
    gated = gated_model(result.prepared.model, result.model)
    off, on = gated.setting(), gated.setting(range(len(gated.gates)))
    runner = PLAIN.open(gated.model, ["logits"])
    exact, rounded = (PLAIN.open(model, ["logits"]) for model in (result.prepared.model, result.model))
    step = float(np.finfo(np.float32).eps)
    for sample in SAMPLES:
        # Sums over constants and over computed weights are added up in another order.
        float_values, values = exact(sample)["logits"], runner({**sample, gated.input: off})["logits"]
        np.testing.assert_allclose(values, float_values, atol=16 * step * float(np.abs(float_values).max()))
        np.testing.assert_array_equal(runner({**sample, gated.input: on})["logits"], rounded(sample)["logits"])


def small_net():
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> net (float[1, 3, 8, 8] x) => (float[1, 5] y)
        { c = Conv <pads = [1, 1, 1, 1]> (x, w, b)   r = Relu (c)   f = Flatten <axis = 1> (r)   y = Gemm (f, v, d) }"""
    )
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "v": (256, 5), "d": (5,)}
    for name, shape in shapes.items():
        array = (rng.normal(size=shape) / 4).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for each in model.graph.node:
        each.name = each.output[0] + "_node"
    samples = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]
    return model, samples


def by_hand(x, w, b, v, d, inner=lambda r: r):
    """Convolution, Relu and product, in float64, with something done to the tensor between them."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    r = np.maximum(np.einsum("ncijkl,ockl->noij", windows, w.astype(np.float64)) + b[:, None, None], 0)
    return inner(r).reshape(1, -1) @ v.astype(np.float64) + d


@pytest.mark.parametrize("level", np.float32([1.0, 0.25]))
def test_one_gate_is_an_injection_by_hand(level):
    model, samples = small_net()
    overrides = {"r": [{"rmin": 0.0, "rmax": 1.5}]}
    result = quantlab.quantize_static(
        model, None, samples, activation_type="uint8", extra_options={"TensorQuantOverrides": overrides}
    )
    gated = gated_model(result.prepared.model, result.model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    grids = {name: tensor.qparams for name, tensor in result.plan.tensors.items()}
    hi, scale = float(grids["r"].span().hi), float(grids["r"].scale)
    injections = {
        ("r", "rounding"): lambda r: r + level * (np.rint(r / scale) * scale - r),
        ("r", "clipping above"): lambda r: r + level * (np.minimum(r, hi) - r),
        ("r", "clipping below"): lambda r: r,
    }
    places = {(gate.tensor, gate.part): place for place, gate in enumerate(gated.gates)}
    for sample in samples:
        for key, inner in injections.items():
            (value,) = run(gated.model, sample, level * gated.setting([places[key]]))
            np.testing.assert_allclose(value, by_hand(sample["x"], **constants, inner=inner), rtol=1e-5, atol=1e-5)
        for name, part in (("w", "weight"), ("v", "weight"), ("b", "bias"), ("d", "bias")):
            exact = constants[name]
            changed = exact + level * (fake_quant(exact, grids[name]) - exact)
            (value,) = run(gated.model, sample, level * gated.setting([places[name, part]]))
            np.testing.assert_allclose(
                value, by_hand(sample["x"], **{**constants, name: changed}), rtol=1e-5, atol=1e-5
            )


def test_tensors_on_one_grid_are_one_source():
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES)
    assert result.plan.tensors["pool_out"].like == "residual_out"
    gates = gated_model(result.prepared.model, result.model).gates
    assert [gate.part for gate in gates if gate.tensor == "residual_out"] == list(PARTS)
    assert not [gate for gate in gates if gate.tensor == "pool_out"]


def test_the_nodes_of_a_source_are_those_that_make_and_read_its_tensor():
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES)
    nodes = {gate.tensor: gate.nodes for gate in gated_model(result.prepared.model, result.model).gates}
    assert nodes["residual_out"] == ("/residual/Add", "/pool/MaxPool", "/head/Conv")
    assert nodes["stem_relu_out"] == ("/stem/Conv", "/stem/Relu", "/body/Conv"), "the Relu is absorbed"
    assert nodes["stem_conv.weight"] == ("/stem/Conv",)


@pytest.mark.parametrize("tensor", ["residual_out", "stem_relu_out", "point_conv_out", "classifier.weight"])
def test_nobody_rounds_a_tensor_once_its_nodes_stay_in_float(tensor):
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES)
    gates = gated_model(result.prepared.model, result.model).gates
    nodes = next(gate.nodes for gate in gates if gate.tensor == tensor)
    again = quantlab.quantize_static(demo.float_model(), None, SAMPLES, nodes_to_exclude=list(nodes))
    assert tensor in result.plan.tensors
    assert tensor not in again.plan.tensors


def test_an_output_that_others_read_too_is_the_rounded_one_where_the_quantized_model_gives_that_out():
    rng = np.random.default_rng(3)
    w = rng.normal(size=(8, 8)).astype(np.float32)
    model = model_of([node("MatMul", ["x", "w"], "inner"), node("MatMul", ["inner", "w2"], "y")],
                     {"w": w, "w2": w.T}, ["inner", "y"], shape=(2, 8))  # fmt: skip
    sample = {"x": rng.normal(size=(2, 8)).astype(np.float32)}
    result = quantlab.quantize_static(model, None, [sample])
    off, on = both(result, sample)
    for value, expected in zip(off, run(result.prepared.model, sample), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    for value, expected in zip(on, run(result.model, sample), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_half_precision_is_gated_in_its_own_type():
    model, samples = small_net()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.shape_inference.infer_shapes(model), keep_io_types=False)
    samples = [{"x": sample["x"].astype(np.float16)} for sample in samples]
    result = quantlab.quantize_static(half, None, samples)
    for sample in samples:
        _, (value,) = both(result, sample)
        (expected,) = run(result.model, sample)
        assert value.dtype == np.float16
        np.testing.assert_allclose(value, expected, rtol=2 * float(np.finfo(np.float16).eps))


def test_a_second_model_without_any_grid():
    model, _ = small_net()
    with pytest.raises(ModelError, match="no rounded tensor of the second model has a partner in the first: give the"):
        gated_model(model, model)
