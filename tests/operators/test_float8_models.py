"""Models with grids of float8: against the textbook, against the peer's bytes, and in onnxruntime."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

from quantlab import ort as drop_in
from quantlab.arrays import UINT8, QuantSpec, fake_quant
from quantlab.backend import OrtBackend
from quantlab.debug.compare import compare
from quantlab.errors import OptionError, QuantlabWarning
from quantlab.plan import Layout, Recipe, RecipeRule, activation_spec, weight_spec
from quantlab.workflow.quantize import QuantResult, decide, prepare_for, quantize
from tests.operators.harness import Case, Scheme, judge, normal, oracle, quantized, run, statuses
from tests.operators.peer import differences, reader

KINDS = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")
LESS_OPTIMIZED = pytest.mark.filterwarnings("ignore:activations of float8:quantlab.errors.QuantlabWarning")
IMAGE = {"x": (1, 4, 6, 6)}


def _case(name: str, text: str, rows: bool = False, **constants: np.ndarray) -> Case:
    shape = "float[3,8]" if rows else "float[1,4,6,6]"
    feeds = {"x": (3, 8)} if rows else IMAGE
    return Case(name=name, text=f"g ({shape} x) => {text}", feeds=feeds, constants=constants, opset=19)


W, B = normal(4, 4, 1, 1), normal(4)
CONV = _case("conv", "(float[1,4,6,6] y) { t = Conv(x, w, b) y = Sigmoid(t) }", w=W, b=B)
RELU = _case("relu", "(float[1,4,6,6] y) { t = Conv(x, w) y = Relu(t) }", w=W)
ADD = _case("add", "(float[3,5] y) { t = MatMul(x, w) y = Add(t, c) }", True, w=normal(8, 5), c=normal(5))
GEMM = _case("gemm", "(float[3,5] y) { y = Gemm(x, w, c) }", True, w=normal(8, 5), c=normal(5))
SOFTMAX = _case("softmax", "(float[3,5] y) { t = MatMul(x, w) y = Softmax(t) }", True, w=normal(8, 5))
POOL = _case("pool", "(float[1,4,5,5] y) { t = Conv(x, w) y = MaxPool<kernel_shape = [2,2]>(t) }", w=W)
MOVED = _case("moved", "(float[5,3] y) { t = MatMul(x, w) y = Transpose<perm = [1,0]>(t) }", True, w=normal(8, 5))
CASES = (CONV, RELU, ADD, GEMM, SOFTMAX, POOL, MOVED)


def scheme_of(kind: str, per_channel: bool = False) -> Scheme:
    return Scheme(name=kind, activation=activation_spec(kind), weight=weight_spec(kind), per_channel=per_channel)


@LESS_OPTIMIZED
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_written_model_is_the_textbooks(case: Case, kind: str) -> None:
    result = quantized(case, scheme_of(kind, per_channel=True))
    onnx.checker.check_model(result.model, full_check=True)
    assert {entry.version for entry in result.model.opset_import} == {19}
    judge_values(case, result)


def judge_values(case: Case, result: QuantResult) -> None:
    """As `judge`, without the floor in dB, which is that of equal steps."""
    for feeds in case.batches():
        wanted = oracle(result, feeds)
        for optimize in (False, True):
            found = run(result.model, feeds, optimize=optimize)
            for name, value in wanted.items():
                # A sum in another order may round to the neighbouring level, which is at most 1/4 away (e5m2).
                largest = float(np.abs(value).max())
                far = np.abs(found[name] - value) > 1e-5 * largest
                assert far.mean() < 0.05
                assert np.abs(found[name] - value).max() <= 0.25 * largest


@LESS_OPTIMIZED
@pytest.mark.parametrize(("kind", "mantissa"), list(zip(KINDS, (3, 3, 2, 2), strict=True)))
def test_errors_are_those_of_so_many_bits_of_mantissa(kind: str, mantissa: int) -> None:
    result = quantized(ADD, scheme_of(kind))
    grid = result.plan.tensors["x"].qparams
    assert grid is not None
    x = ADD.batches()[0]["x"]
    largest = float(np.abs([feeds["x"] for feeds in ADD.batches()]).max())
    assert float(grid.scale) == pytest.approx(largest / grid.spec.dtype.qmax, rel=1e-6)
    rounded = fake_quant(x, grid)
    normal_numbers = np.abs(x) > largest * 2.0**-6
    worst = np.abs(rounded - x)[normal_numbers] / np.abs(x)[normal_numbers]
    assert worst.max() <= 2.0 ** -(mantissa + 1) * (1 + 1e-6)


def by_peer(case: Case, per_channel: bool) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, target = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        onnx.save(named(case), source)
        quantize_static(
            source,
            target,
            reader(case.batches()),
            per_channel=per_channel,
            activation_type=QuantType.QFLOAT8E4M3FN,
            weight_type=QuantType.QFLOAT8E4M3FN,
            calibrate_method=CalibrationMethod.Distribution,
        )
        return onnx.load(target)


def named(case: Case) -> onnx.ModelProto:
    model = case.model()
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    return model


OPTIONS = {"activation_type": "QFLOAT8E4M3FN", "weight_type": "QFLOAT8E4M3FN", "calibrate_method": "Distribution"}


@LESS_OPTIMIZED
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("case", [ADD, POOL, MOVED, CONV, GEMM], ids=lambda case: case.name)
def test_under_the_peers_options_there_are_the_peers_bytes(case: Case, per_channel: bool, tmp_path: Path) -> None:
    mine = drop_in.quantize_static(
        named(case), tmp_path / "q.onnx", reader(case.batches()), per_channel=per_channel, **OPTIONS
    )
    theirs = by_peer(case, per_channel)
    found = differences(mine.model, theirs)
    casts = [node for node in theirs.graph.node if node.op_type == "Cast"]
    for cast in casts:  # the peer copies a float bias from one name to another each time the model runs
        assert found.pop("operators") == ["Cast 0 1"]
        name = cast.output[0]
        assert found.pop("initializers") == [f"+{name}", f"-{name}_quantized"]
        extra = (f"-{cast.name}", f"-{name}")
        found = {key: [line for line in lines if line not in extra] for key, lines in found.items()}
    assert {key: lines for key, lines in found.items() if lines} == {}
    feeds = case.batches()[0]
    assert run(mine.model, feeds)["y"].tobytes() == run(theirs, feeds)["y"].tobytes()


@LESS_OPTIMIZED
def test_softmax_has_its_range_by_definition(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):  # the peer looks for a deviation that it has taken away itself
        by_peer(SOFTMAX, False)
    mine = drop_in.quantize_static(named(SOFTMAX), tmp_path / "q.onnx", reader(SOFTMAX.batches()), **OPTIONS)
    grid = mine.plan.tensors["y"].qparams
    assert grid is not None
    assert float(grid.scale) == np.float32(1 / 448)


@LESS_OPTIMIZED
def test_a_relu_stays_for_float8_has_negative_levels(tmp_path: Path) -> None:
    mine = drop_in.quantize_static(named(RELU), tmp_path / "q.onnx", reader(RELU.batches()), **OPTIONS)
    assert statuses(mine)["Relu"] == "quantized"
    feeds = RELU.batches()[0]
    assert run(mine.model, feeds)["y"].min() >= 0
    assert run(by_peer(RELU, False), feeds)["y"].min() < -1


def test_onnxruntime_loads_activations_of_float8_with_its_basic_optimizations_only() -> None:
    recipe = Recipe(activation=activation_spec("float8e4m3fn"), weight=weight_spec("float8e4m3fn"))
    with pytest.warns(QuantlabWarning, match="open it with graph_optimization_level ORT_ENABLE_BASIC, as quantlab do"):
        result = quantize(named(CONV), CONV.batches(), recipe)
    assert result.plan.notes[-1].startswith("activations of float8, such as 'x' at Conv 'n0': by default onnxruntime ")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="float8e4m3fn"):
        onnxruntime.InferenceSession(result.model.SerializeToString(), options)
    feeds = CONV.batches()[0]
    found = OrtBackend().open(result.model)(feeds)["y"]
    assert np.abs(found - run(CONV.model(), feeds)["y"]).max() < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_alone(kind: str, per_channel: bool) -> None:
    case = _case(
        "net", "(float[1,4,6,6] y) { t = Conv(x, w, b) r = Relu(t) u = Conv(r, v) y = Add(u, c) }",
        w=W, b=B, v=normal(4, 4, 3, 3)[:, :, :1, :1], c=normal(4, 1, 1),
    )  # fmt: skip
    recipe = Recipe(weight=weight_spec(kind), per_channel=per_channel, weights_only=True, optimize=False)
    result = quantize(case.model(), None, recipe)
    assert set(result.plan.tensors) == {"w", "v"}
    assert {node.op: (node.status, node.reason) for node in result.plan.nodes.values()} == {
        "Conv": ("quantized", "all it reads and makes has a grid, save 'r', 'u', which stays float"),
        "Relu": ("float", "only weights get grids, and it has none"),
        "Add": ("float", "only weights get grids, and it has none"),
    }
    feeds = case.batches()[0]
    wanted = oracle(result, feeds)["y"]
    for model in (run(result.model, feeds, optimize=True), OrtBackend().open(result.model)(feeds)):
        assert np.abs(model["y"] - wanted).max() <= 1e-5 * np.abs(wanted).max()


@LESS_OPTIMIZED
def test_half_precision() -> None:
    case = Case(
        name="half",
        text="g (float16[3,8] x) => (float16[3,5] y) { t = MatMul(x, w) y = Softmax(t) }",
        feeds={"x": (3, 8)},
        constants={"w": normal(8, 5, dtype=np.float16)},
        opset=19,
    )
    result = quantized(case, scheme_of("float8e4m3fn"))
    assert {tensor.qparams.scale.dtype for tensor in result.plan.tensors.values() if tensor.qparams} == {
        np.dtype(np.float16)
    }
    assert np.abs(run(result.model, case.batches()[0])["y"] - run(case.model(), case.batches()[0])["y"]).max() < 0.1


def test_a_constant_that_does_not_deviate_keeps_its_value(tmp_path: Path) -> None:
    case = _case("flat", "(float[3,5] y) { t = MatMul(x, w) y = Add(t, c) }", True,
                 w=normal(8, 5), c=np.full(5, 0.3, np.float32))  # fmt: skip
    with pytest.warns(QuantlabWarning, match="activations of float8"):
        mine = drop_in.quantize_static(named(case), tmp_path / "q.onnx", reader(case.batches()), **OPTIONS)
    grid = mine.plan.tensors["c"].qparams
    assert grid is not None
    assert float(grid.scale) * 448 == pytest.approx(0.3)


@pytest.mark.parametrize("kind", [*KINDS, "int4", "uint8", "int16"])
@pytest.mark.parametrize("case", [ADD, GEMM], ids=lambda case: case.name)
def test_products_by_weights_alone(case: Case, kind: str) -> None:
    result = quantize(case.model(), None, Recipe(weight=weight_spec(kind), weights_only=True, optimize=False))
    assert set(result.plan.tensors) == {"w"}
    feeds = case.batches()[0]
    # Beside 4- and 8-bit integers onnxruntime's MatMulNBits rounds the activations to 8 bits too, as its default is.
    found = run(result.model, feeds, optimize=kind in KINDS)["y"]
    wanted = oracle(result, feeds)["y"]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_plans_survive_json() -> None:
    recipe = Recipe(weight=weight_spec("float8e5m2"), per_channel=True, weights_only=True)
    assert Recipe.from_json(recipe.to_json()) == recipe
    plan = quantize(CONV.model(), None, recipe).plan
    assert type(plan).from_json(plan.to_json()) == plan


@LESS_OPTIMIZED
@pytest.mark.parametrize("kind", KINDS)
def test_comparing_reads_them(kind: str) -> None:
    # onnxruntime hands float8e4m3fn alone out to Python, so that activations of the others cannot be looked at.
    recipe = Recipe(
        activation=activation_spec("float8e4m3fn"),
        weight=weight_spec(kind),
        per_channel=True,
        weights_only=kind != "float8e4m3fn",
    )
    result = quantize(named(CONV), CONV.batches(), recipe)
    rows = {row.name: row for row in compare(named(CONV), result.model, CONV.batches()).tensors}
    grid = result.plan.tensors["w"].qparams
    assert grid is not None
    exact = CONV.constants["w"].astype(np.float64)
    noise = float(((fake_quant(CONV.constants["w"], grid) - exact) ** 2).sum())
    assert rows["w"].sqnr_db == pytest.approx(10 * np.log10(float((exact**2).sum()) / noise), abs=1e-3)


@pytest.mark.parametrize("weight", KINDS)
@pytest.mark.parametrize("case", [CONV, ADD, GEMM], ids=lambda case: case.name)
def test_float8_by_8_bit_integers_is_refused(case: Case, weight: str) -> None:
    recipe = Recipe(activation=QuantSpec(dtype=UINT8), weight=weight_spec(weight), optimize=False)
    op = case.model().graph.node[0].op_type
    with pytest.raises(OptionError) as caught:
        decide(prepare_for(case.model(), recipe), recipe)
    assert str(caught.value) == (
        f"{op} '{op}_0' would multiply 'x', uint8, by 'w', {weight}, and onnxruntime refuses to load such a model: "
        "leave the activations in float (weights_only), or give them float8 or 16 bits"
    )


def test_float8_by_16_bits_runs() -> None:
    scheme = replace(scheme_of("float8e4m3fn"), activation=activation_spec("int16"))
    judge_values(ADD, quantized(ADD, scheme))


def test_what_float8_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"^format QOperator has no operators on float8e5m2: take int8 or uint8 for"):
        Recipe(weight=weight_spec("float8e5m2"), format="QOperator")
    with pytest.raises(OptionError, match=r"^QuantizeLinear and DequantizeLinear of domain com.microsoft take no flo"):
        Recipe(rules=(RecipeRule(weight=weight_spec("float8e5m2")),), layout=Layout(contrib_ops=True))
    with pytest.raises(OptionError, match=r"^operators on integers take integers on every side: leave weights_only "):
        Recipe(format="QOperator", weights_only=True)
    with pytest.raises(OptionError, match=r"^a grid of float8e4m3fn has no zero point and one span: give symmetric="):
        weight_spec("float8e4m3fn", reduce_range=True)


def test_integers_are_judged_as_before() -> None:
    judge(ADD, quantized(ADD, Scheme(name="int8", activation=activation_spec("int8"), weight=weight_spec("int8"))))
