"""Small models built by code, quantized and judged by an oracle that shares no code with the writer of models.

The oracle runs the prepared float model one node at a time in onnxruntime and rounds each tensor that the plan rounds
with a few lines of NumPy. The noise floor comes from bit widths alone: see `noise_floor`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper, parser

from quantlab.arrays import QParams, QuantSpec
from quantlab.backend import OrtBackend
from quantlab.graph import captured, subgraphs
from quantlab.plan import QuantPlan, Recipe, RecipeRule, TensorPlan, activation_spec, weight_spec
from quantlab.plan.recipe import Format
from quantlab.workflow.engine import Engine
from quantlab.workflow.quantize import Prepared, QuantResult, calibrate, decide, prepare_for, write

Array = npt.NDArray[Any]
SAMPLES = 4
IR_VERSION = 10
FLOAT8 = {
    onnx.TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    onnx.TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    onnx.TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    onnx.TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
}


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to quantize, and the least opset it needs."""

    name: str
    activation: QuantSpec
    weight: QuantSpec
    per_channel: bool = False
    format: Format = "QDQ"

    def recipe(self, *, op_types: Sequence[str] | None = None, rules: Sequence[RecipeRule] = ()) -> Recipe:
        """Return the recipe."""
        return Recipe(
            activation=self.activation,
            weight=self.weight,
            per_channel=self.per_channel,
            format=self.format,
            op_types=None if op_types is None else tuple(op_types),
            rules=tuple(rules),
        )


INT8 = Scheme(name="int8", activation=activation_spec("int8"), weight=weight_spec("int8"))
INT8_CHANNELS = Scheme(
    name="int8-per-channel", activation=activation_spec("int8"), weight=weight_spec("int8"), per_channel=True
)
UINT8 = Scheme(name="uint8", activation=activation_spec("uint8"), weight=weight_spec("uint8"))
U8S8_CHANNELS = Scheme(
    name="uint8-int8-per-channel", activation=activation_spec("uint8"), weight=weight_spec("int8"), per_channel=True
)
UINT8_CHANNELS = Scheme(
    name="uint8-per-channel", activation=activation_spec("uint8"), weight=weight_spec("uint8"), per_channel=True
)
SYMMETRIC = Scheme(name="symmetric", activation=activation_spec("int8", symmetric=True), weight=weight_spec("int8"))
INT16_WEIGHTS = Scheme(name="int16-weights", activation=activation_spec("int8"), weight=weight_spec("int16"))
INT16 = Scheme(name="int16", activation=activation_spec("int16"), weight=weight_spec("int16"), per_channel=True)
INT4_WEIGHTS = Scheme(
    name="int4-weights", activation=activation_spec("uint8"), weight=weight_spec("int4"), per_channel=True
)
REDUCED = Scheme(
    name="uint8-int8-7-bits",
    activation=activation_spec("uint8"),
    weight=weight_spec("int8", reduce_range=True),
    per_channel=True,
)

WEIGHTED = (
    INT8, INT8_CHANNELS, UINT8, U8S8_CHANNELS, UINT8_CHANNELS, SYMMETRIC, INT16_WEIGHTS, INT16, INT4_WEIGHTS, REDUCED
)  # fmt: skip
"""Schemes for operators with weights."""

PLAIN = (INT8, UINT8, SYMMETRIC, INT16)
"""Schemes for operators without."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tiny float model with its data.

    Attributes:
        name: What the test is called.
        text: The graph in ONNX's text form.
        constants: Initializers.
        opset: Version of the default operator set.
        feeds: Input name to the shape that is fed; float inputs are filled with normal numbers.
        domains: Further operator sets and their versions.
        schemes: The ways to quantize that are tested.
        op_types: Operator types to quantize, or None for the usual ones.
    """

    name: str
    text: str
    feeds: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Array] = field(default_factory=dict)
    opset: int = 17
    domains: Mapping[str, int] = field(default_factory=dict)
    schemes: tuple[Scheme, ...] = ()
    op_types: tuple[str, ...] | None = None

    def model(self) -> onnx.ModelProto:
        """Build the model."""
        graph = parser.parse_graph(self.text)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.constants.items())
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        model = helper.make_model(graph, opset_imports=imports)
        model.ir_version = IR_VERSION
        return model

    def batches(self, count: int = SAMPLES) -> list[dict[str, Array]]:
        """Make the same few samples each time."""
        kinds = {value.name: value.type.tensor_type.elem_type for value in self.model().graph.input}
        rng = np.random.default_rng(len(self.text) + sum(map(ord, self.name)))
        made = []
        for _ in range(count):
            sample: dict[str, Array] = {}
            for name, shape in self.feeds.items():
                kind = helper.tensor_dtype_to_np_dtype(kinds[name])
                drawn = rng.normal(0.25, 1.5, shape) if kind.kind == "f" else rng.integers(0, 3, shape)
                sample[name] = np.asarray(drawn).astype(kind)
            made.append(sample)
        return made


def each(*cases: Case) -> pytest.MarkDecorator:
    """Parametrize a test over cases and their schemes."""
    pairs = [pytest.param(case, scheme, id=f"{case.name}-{scheme.name}") for case in cases for scheme in case.schemes]
    return pytest.mark.parametrize(("case", "scheme"), pairs)


def quantized(case: Case, scheme: Scheme = INT8, *, rules: Sequence[RecipeRule] = ()) -> QuantResult:
    """Quantize a case with ranges measured on the graph as it stands."""
    recipe = scheme.recipe(op_types=case.op_types, rules=rules)
    prepared = prepare_for(case.model(), recipe)
    engine = Engine(backend=OrtBackend(optimize=False, threads=1))
    plan = calibrate(prepared, decide(prepared, recipe), case.batches(), recipe, engine=engine)
    return write(prepared, plan)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimize: bool = False) -> dict[str, Array]:
    """Run a model in onnxruntime on one thread."""
    return _run(_session(model.SerializeToString(), optimize, rounds_to_float8(model)), feeds)


def rounds_to_float8(model: onnx.ModelProto) -> bool:
    """Say whether a model rounds activations to float8, which onnxruntime runs with its basic optimizations only."""
    zeros = {tensor.name for tensor in model.graph.initializer if tensor.data_type in FLOAT8}
    return any(node.op_type == "QuantizeLinear" and node.input[2] in zeros for node in model.graph.node)


def _session(text: bytes, optimize: bool, basic: bool = False) -> ort.InferenceSession:
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    most = levels.ORT_ENABLE_BASIC if basic else levels.ORT_ENABLE_ALL
    options.graph_optimization_level = most if optimize else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(text, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def round_to_grid(values: Array, grid: QParams) -> Array:
    """Round onto a grid and back, by the textbook: x -> s (clip(rint(x / s) + z, qmin, qmax) - z)."""
    shape = [1] * values.ndim
    if grid.spec.axis is not None:
        shape[grid.spec.axis] = -1
    scale, zero = grid.scale, grid.zero_point.astype(np.int64)
    if grid.spec.block_size is None:
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        repeated = [np.repeat(numbers, grid.spec.block_size, grid.spec.axis) for numbers in (scale, zero)]
        scale, zero = (numbers[tuple(map(slice, values.shape))] for numbers in repeated)
    if grid.spec.dtype.is_float:
        last = float(grid.spec.dtype.qmax)  # the conversion alone does not saturate
        codes = np.clip(values.astype(np.float32) / scale.astype(np.float32), -last, last)
        levels = codes.astype(FLOAT8[grid.spec.dtype.onnx_code]).astype(np.float32)
        return np.asarray(levels * scale.astype(np.float32), values.dtype)
    wide = np.float64 if grid.spec.dtype.bits > 16 else np.float32
    steps = np.rint(values.astype(wide) / scale.astype(wide)) + zero
    integers = np.clip(steps, grid.spec.dtype.qmin, grid.spec.dtype.qmax) - zero
    return np.asarray(integers.astype(np.float32) * scale.astype(np.float32), values.dtype)


Change = Callable[[str, TensorPlan, Array], Array]


def walk(prepared: Prepared, plan: QuantPlan, feeds: Mapping[str, Array], change: Change) -> dict[str, Array]:
    """Run the float model node by node, with `change` between whoever makes a planned tensor and whoever reads it."""
    graph = prepared.model.graph
    known: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer} | dict(feeds)
    rounded: dict[str, Array] = {}

    def look_up(name: str, reader: str) -> Array:
        tensor = plan.tensors.get(name)
        if tensor is None or (tensor.readers is not None and reader not in tensor.readers):
            return known[name]
        if name not in rounded:
            rounded[name] = change(name, tensor, known[name])
        if tensor.convert is not None and tensor.converts_for(reader):
            assert tensor.convert.qparams is not None
            return round_to_grid(rounded[name], tensor.convert.qparams)
        return rounded[name]

    for node in graph.node:
        outer = [name for graph_inside in subgraphs(node) for name in captured(graph_inside)]
        inputs = {name: look_up(name, node.name) for name in (*node.input, *outer) if name}
        session = _session(_single(node.SerializeToString(), _types(inputs), _imports(prepared.model)), False)
        known.update(_run(session, inputs))
    outputs = [value.name for value in graph.output]
    return {name: look_up(name, "") for name in outputs}


def _types(inputs: Mapping[str, Array]) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    return tuple((name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in inputs.items())


def _imports(model: onnx.ModelProto) -> tuple[tuple[str, int], ...]:
    return tuple((entry.domain, entry.version) for entry in model.opset_import)


@cache
def _single(
    text: bytes, types: tuple[tuple[str, int, tuple[int, ...]], ...], imports: tuple[tuple[str, int], ...]
) -> bytes:
    """Build a model of one node whose inputs are all fed."""
    node = onnx.NodeProto.FromString(text)
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in types]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in imports])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def oracle(result: QuantResult, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Compute what a quantized model ought to give."""

    def change(_: str, tensor: TensorPlan, values: Array) -> Array:
        assert tensor.qparams is not None
        return round_to_grid(values, tensor.qparams)

    return walk(result.prepared, result.plan, feeds, change)


def noise_floor(result: QuantResult, batches: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Derive the least SQNR in dB of each output from nothing but bit widths and the data.

    Rounding to b bits a tensor that spans R has steps s = R / (2^b - 1), and errors that are even over -s/2..s/2, of
    power s^2 / 12. Noise of that kind is put on every tensor that the plan rounds. At worst each error is s/2, of power
    s^2 / 4: three times as much, and so 10 log10(3) dB less.
    """
    rng = np.random.default_rng(1)
    spans: dict[str, tuple[Array, Array]] = {}

    def look(name: str, tensor: TensorPlan, values: Array) -> Array:
        ends = _ends(values, tensor.spec)
        before = spans.get(name, ends)
        spans[name] = np.minimum(ends[0], before[0]), np.maximum(ends[1], before[1])
        return values

    def disturb(name: str, tensor: TensorPlan, values: Array) -> Array:
        if tensor.role == "bias":  # its steps are 2^-24 of what the output spans
            return values
        lo, hi = spans.get(tensor.like or tensor.range_of or name, spans[name])
        if tensor.fixed is not None:
            lo, hi = map(np.asarray, tensor.fixed)
        if tensor.spec.symmetric:
            hi = np.maximum(np.abs(lo), np.abs(hi))
            lo = -hi
        bits = tensor.spec.dtype.bits - tensor.spec.reduce_range
        step = (hi - lo) / (2**bits - 1)
        return np.asarray(values + rng.uniform(-0.5, 0.5, values.shape) * step, values.dtype)

    exact = [walk(result.prepared, result.plan, feeds, look) for feeds in batches]
    noisy = [walk(result.prepared, result.plan, feeds, disturb) for feeds in batches]
    return {name: sqnr_db(exact, noisy, name) - 10 * np.log10(3) for name in exact[0]}


def _ends(values: Array, spec: QuantSpec) -> tuple[Array, Array]:
    others = None if spec.axis is None else tuple(axis for axis in range(values.ndim) if axis != spec.axis)
    lo = np.minimum(values.min(axis=others, keepdims=True), 0).astype(np.float64)
    hi = np.maximum(values.max(axis=others, keepdims=True), 0).astype(np.float64)
    return (lo.reshape(()), hi.reshape(())) if spec.axis is None else (lo, hi)


def sqnr_db(exact: Sequence[Mapping[str, Array]], other: Sequence[Mapping[str, Array]], name: str) -> float:
    """Return 10 log10(sum x^2 / sum (x - y)^2) over all samples of one output; infinite where they are equal."""
    pairs = [(a[name].astype(np.float64), b[name].astype(np.float64)) for a, b in zip(exact, other, strict=True)]
    signal = sum(float((a**2).sum()) for a, _ in pairs)
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return np.inf if noise == 0 else 10 * float(np.log10(signal / noise))


def output_step(result: QuantResult, name: str) -> float:
    """Return one step of an output's grid, in the tensor's unit; 0 where it has none."""
    tensor = result.plan.tensors.get(name)
    return 0.0 if tensor is None or tensor.qparams is None else float(tensor.qparams.scale)


def judge(case: Case, result: QuantResult) -> None:
    """Assert that a quantized model is valid, runs both ways, equals the oracle and keeps to its noise floor."""
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.resolved
    batches = case.batches()
    exact = [run(case.model(), feeds) for feeds in batches]
    expected = [oracle(result, feeds) for feeds in batches]
    floors = noise_floor(result, batches)
    for optimize in (False, True):
        session = _session(result.model.SerializeToString(), optimize, rounds_to_float8(result.model))
        found = [_run(session, feeds) for feeds in batches]
        for name in exact[0]:
            step = output_step(result, name)
            for got, want in zip(found, expected, strict=True):
                largest = float(np.abs(want[name]).max())
                slack = step + 2 * float(np.finfo(want[name].dtype).eps) * largest if step else 1e-5 * largest
                worst = np.abs(got[name].astype(np.float64) - want[name]).max()
                assert worst <= slack, f"{name}, optimize={optimize}: off by {worst / (step or 1):.2f} steps"
            # Optimizing, onnxruntime rounds even biases that the model keeps in float; that noise is not in the floor.
            if not optimize:
                assert sqnr_db(exact, found, name) >= floors[name], name


def statuses(result: QuantResult) -> dict[str, str]:
    """Return operator type to status; for models in which each operator comes once."""
    return {node.op: node.status for node in result.plan.nodes.values()}


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the operator types in the order of the file, without those that round."""
    return [node.op_type for node in model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    """Return the constants of a model; 4-bit ones as onnx gives them."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def executed(model: onnx.ModelProto) -> list[str]:
    """Return the operator types that onnxruntime is left with once it has optimized a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(path).graph.node]


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> Array:
    """Return normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
