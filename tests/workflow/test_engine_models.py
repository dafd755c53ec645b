"""Models and data of every shape and type through the engine, against onnxruntime asked tensor by tensor."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

import quantlab
from quantlab import demo, kernels
from quantlab.backend import OrtBackend, signature
from quantlab.calibration import MinMax, calibrator, calibrators, save_statistics
from quantlab.data import batches
from quantlab.graph.expose import bfloat16_tensors, expose
from quantlab_kernels import compiled
from quantlab_kernels import reference as reference_kernels
from tests.data.data_specs import Ranging, Tensor

ONE = OrtBackend(threads=1)
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(9, 4)).astype(np.float32)


def parsed(inputs, outputs, body, opset=19):
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )


def measured(model, tensors, data, **engine):
    return quantlab.Engine(backend=ONE, **engine).measure(model, dict.fromkeys(tensors, MinMax()), data)


def ends(values):
    flat = np.concatenate([np.ravel(value) for value in values])
    return flat.size, float(flat.min()), float(flat.max())


def found(seen):
    return {name: (one.count, one.lo, one.hi) for name, one in seen.items()}


# bfloat16 and float64

BRAIN = parsed(
    "float[N, 3] x, bfloat16[N, 3] w",
    "bfloat16[M, 3] y, float[M, 3] z",
    "t = Cast<to=16>(x) c = Concat<axis=0>(t, w) y = Transpose<perm=[0, 1]>(c) wide = Cast<to=1>(c) z = Relu(wide)",
)


def brain_samples(kind):
    return [
        {"x": RANDOM.normal(size=(2, 3)).astype(np.float32), "w": RANDOM.normal(size=(2, 3)).astype(kind)}
        for _ in range(7)
    ]


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("workers", [1, 3])
def test_bfloat16_tensors_are_observed_exactly(kind, workers):
    data = brain_samples(kind)
    stream = batches(data, signature(BRAIN))
    seen = measured(BRAIN, ["x", "w", "t", "c", "y", "z"], stream, workers=workers)
    t = [sample["x"].astype(ml_dtypes.bfloat16).astype(np.float32) for sample in data]
    w = [sample["w"].astype(ml_dtypes.bfloat16).astype(np.float32) for sample in data]
    assert found(seen) == {
        "x": ends([sample["x"] for sample in data]),
        "w": ends(w),
        "t": ends(t),
        "c": ends([*t, *w]),
        "y": ends([*t, *w]),
        "z": ends([np.maximum(part, 0) for part in (*t, *w)]),
    }
    # Given to the engine without a stream of checked batches, it is the same.
    assert measured(BRAIN, list(seen), data, workers=workers) == seen


def test_special_values_of_bfloat16_come_through():
    values = np.array([np.inf, -np.inf, np.nan, 1e-40, 3.3e38, -0.0], np.float32).reshape(2, 3)
    got = ONE.open(BRAIN)({"x": values, "w": values.astype(ml_dtypes.bfloat16)})
    wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert got["y"].dtype == np.float32
    assert np.array_equal(got["y"], np.concatenate([wanted, wanted]), equal_nan=True)
    assert np.array_equal(np.signbit(got["y"][:2]), np.signbit(wanted))


def test_only_bfloat16_tensors_get_a_cast():
    assert bfloat16_tensors(BRAIN) == {"w", "t", "c", "y"}
    opened = expose(BRAIN, ["t", "wide"], keep_outputs=False)
    assert [value.name for value in opened.graph.output] == ["t_float32", "wide"]
    assert len(opened.graph.node) == len(BRAIN.graph.node) + 1
    plain = parsed("float[N] x", "float[N] y", "t = Cast<to=10>(x) y = Cast<to=1>(t)")
    assert bfloat16_tensors(plain) == set()
    assert expose(plain, ["t"]).graph.node == plain.graph.node


def test_a_model_with_bfloat16_inside_is_quantized_around_it():
    model = parsed(
        "float[N, 3] x", "float[N, 3] y", "s = Sigmoid(x) t = Cast<to=16>(s) u = Cast<to=1>(t) y = Sigmoid(u)"
    )
    data = [{"x": RANDOM.normal(size=(2, 3)).astype(np.float32)} for _ in range(3)]
    recipe = quantlab.Recipe(op_types=("Sigmoid",))
    plan = quantlab.quantize(model, data, recipe).plan
    assert {name for name, tensor in plan.tensors.items() if tensor.qparams is not None} == {"x", "s", "u", "y"}


def test_float64_and_float16_tensors_are_observed_as_they_are():
    model = parsed("double[N] x", "float16[N] y", "t = Mul(x, x) y = Cast<to=10>(t)")
    data = [{"x": RANDOM.normal(size=4)} for _ in range(5)]
    squares = [sample["x"] * sample["x"] for sample in data]
    assert found(measured(model, ["x", "t", "y"], data)) == {
        "x": ends([sample["x"] for sample in data]),
        "t": ends(squares),
        "y": ends([square.astype(np.float16) for square in squares]),
    }


def test_integer_tensors_are_never_asked_for():
    model = parsed(
        "int64[N] ids, float[9, 4] table, float[4, 2] w",
        "float[N, 2] y, int64[N] best",
        "e = Gather(table, ids) y = MatMul(e, w) best = ArgMax<axis=1, keepdims=0>(y)",
    )
    prepared = quantlab.prepare_for(model)
    plan = quantlab.decide(prepared, quantlab.Recipe())
    assert {"table", "e", "y"} & set(plan.observed())
    assert not {"ids", "best"} & {*plan.observed(), *plan.tensors}
    data = [{"ids": np.arange(5) + index, "table": TABLE, "w": TABLE[:4, :2]} for index in range(4)]
    result = quantlab.quantize(model, data)
    assert all(isinstance(tensor.values, quantlab.Range) for tensor in result.plan.tensors.values() if not tensor.like)


# Shapes, several inputs, integers, inputs that are outputs


def reference(model, tensors, data):
    """Ask onnxruntime for one tensor at a time, in a session of its own."""
    given = {value.name for value in model.graph.input}
    values = {}
    for name in tensors:
        if name in given:
            values[name] = [sample[name] for sample in data]
            continue
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.graph.output[:]
        copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(copy.SerializeToString(), options, ["CPUExecutionProvider"])
        wanted = {value.name for value in session.get_inputs()}
        values[name] = [
            session.run([name], {key: array for key, array in sample.items() if key in wanted})[0] for sample in data
        ]
    return {name: ends(arrays) for name, arrays in values.items()}


PLAIN = OrtBackend(threads=1, optimize=False)


def test_ragged_shapes():
    model = parsed("float[N, L] x", "float[N] y", "t = Relu(x) y = ReduceMax<keepdims=0>(t, axes)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    model.opset_import[0].version = 18
    data = [{"x": RANDOM.normal(size=(1 + index % 3, 2 + 5 * index)).astype(np.float32)} for index in range(9)]
    stream = batches(data, signature(model))
    for workers in (1, 3):
        seen = quantlab.Engine(backend=PLAIN, workers=workers).measure(
            model, dict.fromkeys(["x", "t", "y"], MinMax()), stream
        )
        assert found(seen) == reference(model, ["x", "t", "y"], data)


MIXED = parsed(
    "int64[N] ids, float[N, 4] x, bool[N, 1] mask, int32[N, 4] shift",
    "float[N, 4] y, float[N, 4] x, int64[N] ids",
    "e = Gather(table, ids) s = Add(e, x) k = Cast<to=1>(shift) m = Where(mask, s, k) y = Sigmoid(m)",
)
MIXED.graph.initializer.append(onnx.numpy_helper.from_array(TABLE, "table"))
MIXED_DATA = [
    {
        "ids": RANDOM.integers(0, 9, 2),
        "x": RANDOM.normal(size=(2, 4)).astype(np.float32),
        "mask": RANDOM.random((2, 1)) > 0.5,
        "shift": RANDOM.integers(-5, 5, (2, 4), np.int32),
    }
    for _ in range(8)
]
SOURCES = {
    "dicts": lambda: MIXED_DATA,
    "tensors": lambda: [{name: Tensor(array) for name, array in sample.items()} for sample in MIXED_DATA],
    "tuples": lambda: [tuple(sample.values()) for sample in MIXED_DATA],
    "whole batches": lambda: {name: np.stack([sample[name] for sample in MIXED_DATA]) for name in MIXED_DATA[0]},
    "generator": lambda: (sample for sample in MIXED_DATA),
    "ranged reader": lambda: Ranging(MIXED_DATA),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_several_inputs_of_several_types_one_of_them_an_output(kind):
    names = ["x", "e", "s", "k", "m", "y"]
    seen = quantlab.Engine(backend=PLAIN).measure(
        MIXED, dict.fromkeys(names, MinMax()), batches(SOURCES[kind](), signature(MIXED))
    )
    assert found(seen) == reference(MIXED, names, MIXED_DATA)


def test_an_input_that_is_an_output_is_quantized():
    result = quantlab.quantize(MIXED, MIXED_DATA, quantlab.Recipe(op_types=("Sigmoid", "Add")))
    assert result.plan.tensors["x"].qparams is not None
    session = onnxruntime.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"])
    _, x, ids = session.run(None, MIXED_DATA[0])
    assert np.array_equal(ids, MIXED_DATA[0]["ids"])
    assert np.array_equal(x, MIXED_DATA[0]["x"])


# Kernels


@pytest.mark.parametrize("rule", sorted(calibrators))
def test_the_environment_chooses_kernels_and_no_bytes(rule, monkeypatch, tmp_path):
    images = demo.digits().train_images[:40]
    prepared = quantlab.prepare_for(quantlab.load(demo.float_model()))
    recipe = quantlab.Recipe(calibrate=rule)
    plan = quantlab.decide(prepared, recipe)
    written = {}
    for choice in ("numpy", "numba", "auto"):
        monkeypatch.setenv("QUANTLAB_KERNELS", choice)
        assert kernels.choice() == choice
        empty = dict.fromkeys(plan.observed(), calibrator(rule).empty())
        seen = quantlab.Engine().measure(prepared.model, empty, [{"image": image[None]} for image in images])
        save_statistics(tmp_path / choice, seen)
        resolved = quantlab.calibrate(prepared, plan, [{"image": image[None]} for image in images], recipe)
        written[choice] = ((tmp_path / choice).read_bytes(), resolved.to_json())
    assert written["numpy"] == written["numba"] == written["auto"]


def test_workers_use_the_kernels_that_are_chosen_in_code(monkeypatch):
    calls, min_max = [], kernels.min_max

    def counted(x):
        calls.append(kernels.active())
        return min_max(x)

    monkeypatch.setattr(kernels, "min_max", counted)
    for choice, module in (("numpy", reference_kernels), ("numba", compiled)):
        calls.clear()
        with kernels.using(choice):
            measured(MIXED, ["y"], MIXED_DATA, workers=2)
        assert calls
        assert set(calls) == {module}
