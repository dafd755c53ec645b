"""Folding batch normalization: equal to the unfolded model within a bound derived from the sums themselves.

A sum of n float products, in whatever order, differs from the exact one by at most about n * eps * sum |terms| (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1). Both models compute such a sum, of at most `terms`
products and a few more roundings for the normalization, so they differ by no more than 2 * (terms + 8) * eps *
sum |terms|; and sum |terms| is what the unfolded model gives when every number in it is replaced by its absolute value
and the mean by minus its absolute value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import PassError
from quantlab.graph.prepare import fold_batch_norm, prepare
from quantlab.graph.prepare.affine_solvers import scale_transposed
from quantlab.graph.prepare.batch_norm import channel_affine
from tests.graph.builders import CAPTURING, Array, build, initializers, normal, operators, run

FOLD = fold_batch_norm()
IMAGE = "float[1,4,5,5] x"


def statistics(channels: int, prefix: str = "") -> dict[str, Array]:
    return {
        f"{prefix}g": normal(11, channels),
        f"{prefix}e": normal(12, channels),
        f"{prefix}m": normal(13, channels),
        f"{prefix}v": np.abs(normal(14, channels)) + np.float32(0.01),
    }


def magnitudes(constants: Mapping[str, Array]) -> dict[str, Array]:
    return {name: -np.abs(value) if name.endswith("m") else np.abs(value) for name, value in constants.items()}


def assert_equal_within_rounding(
    text: str, constants: Mapping[str, Array], x: Array, *, terms: int, opset: int = 17
) -> onnx.ModelProto:
    before = build(text, constants, opset=opset)
    after = FOLD(before).model
    assert "BatchNormalization" not in operators(after)
    onnx.checker.check_model(after, full_check=True)
    size = run(build(text.replace("alpha = -", "alpha = "), magnitudes(constants), opset=opset), {"x": np.abs(x)})
    old, new = run(before, {"x": x}), run(after, {"x": x})
    for name, value in old.items():
        bound = 2 * (terms + 8) * np.finfo(x.dtype).eps * size[name].astype(np.float64)
        assert (np.abs(new[name].astype(np.float64) - value) <= bound).all()
        assert np.abs(value).max() > 100 * bound.max() or x.dtype == np.float16  # the bound can tell right from wrong
    return after


BN = "BatchNormalization(t, g, e, m, v)"
ROWS = "float[3,7] x"


@dataclass(frozen=True, kw_only=True)
class Case:
    producer: str
    weight: tuple[int, ...]
    output: tuple[int, ...]
    terms: int
    given: str = IMAGE
    norm: str = f"y = {BN}"

    @property
    def text(self) -> str:
        shape = ",".join(map(str, self.output))
        return f"g ({self.given}) => (float[{shape}] y) {{ t = {self.producer} {self.norm} }}"

    @property
    def constants(self) -> dict[str, Array]:
        channels = self.output[1]
        more = {"b": normal(2, channels)} if "w, b)" in self.producer else {}
        if "g2" in self.norm:
            more |= {"g2": normal(21, channels), "e2": normal(22, channels)}
        return {"w": normal(1, *self.weight), **statistics(channels), **more}

    @property
    def x(self) -> Array:
        return normal(0, *map(int, self.given[self.given.index("[") + 1 : self.given.index("]")].split(",")))


PLAIN = Case(producer="Conv(x, w, b)", weight=(6, 4, 3, 3), output=(1, 6, 3, 3), terms=36)
GEMM = Case(producer="Gemm(x, w, b)", weight=(7, 5), output=(3, 5), terms=7, given=ROWS)
TWICE = "u = BatchNormalization(t, g, e, m, v) y = BatchNormalization(u, g2, e2, m, v)"
EPSILON = "y = BatchNormalization<momentum = 0.5, epsilon = 0.1>(t, g, e, m, v)"
WIDE = Case(producer="ConvTranspose(x, w, b)", weight=(4, 6, 3, 3), output=(1, 6, 7, 7), terms=36)
CASES = {
    "conv": PLAIN,
    "conv without bias": replace(PLAIN, producer="Conv(x, w)"),
    "conv, empty bias": replace(PLAIN, producer="Conv(x, w, )"),
    "conv, two groups": replace(PLAIN, producer="Conv<group = 2>(x, w, b)", weight=(6, 2, 3, 3), terms=18),
    "conv, depthwise": replace(
        PLAIN, producer="Conv<group = 4>(x, w, b)", output=(1, 4, 3, 3), weight=(4, 1, 3, 3), terms=9
    ),
    "conv, one dimension": replace(PLAIN, given="float[2,4,9] x", weight=(5, 4, 3), output=(2, 5, 7), terms=12),
    "conv transpose": WIDE,
    "conv transpose, two groups": replace(
        WIDE, producer="ConvTranspose<group = 2>(x, w, b)", weight=(4, 3, 3, 3), terms=18
    ),
    "conv transpose, depthwise, no bias": replace(
        WIDE, producer="ConvTranspose<group = 4>(x, w)", weight=(4, 1, 3, 3), output=(1, 4, 7, 7), terms=9
    ),
    "gemm": GEMM,
    "gemm, transposed": replace(GEMM, producer="Gemm<transB = 1>(x, w, b)", weight=(5, 7)),
    "gemm, alpha and beta": replace(GEMM, producer="Gemm<alpha = -0.5, beta = 3.0>(x, w, b)"),
    "gemm without bias": replace(GEMM, producer="Gemm<beta = 0.0>(x, w)"),
    "matmul": replace(GEMM, producer="MatMul(x, w)"),
    "two in a row": replace(PLAIN, norm=TWICE),
    "matmul, two in a row": replace(GEMM, producer="MatMul(x, w)", norm=TWICE),
    "an epsilon after another attribute": replace(PLAIN, norm=EPSILON),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_folded_model_computes_the_same(kind: str) -> None:
    case = CASES[kind]
    after = assert_equal_within_rounding(case.text, case.constants, case.x, terms=case.terms)
    (operator,) = operators(after)
    assert operator == re.split(r"[<(]", case.producer)[0].replace("MatMul", "Gemm")


@pytest.mark.parametrize("bias", [(), (1,), (5,), (1, 5), (3, 1), (3, 5)])
def test_every_shape_of_a_gemm_bias(bias: tuple[int, ...]) -> None:
    text = f"g (float[3,7] x) => (float[3,5] y) {{ t = Gemm<beta = 0.5>(x, w, b) y = {BN} }}"
    constants = {"w": normal(1, 7, 5), "b": np.asarray(normal(2, *bias), np.float32), **statistics(5)}
    assert_equal_within_rounding(text, constants, normal(0, 3, 7), terms=7)


@pytest.mark.parametrize("opset", [9, 13, 14, 15])
def test_every_version_of_the_operator(opset: int) -> None:
    assert_equal_within_rounding(PLAIN.text, PLAIN.constants, PLAIN.x, terms=PLAIN.terms, opset=opset)


def test_other_float_types() -> None:
    for name, dtype in (("float16", np.float16), ("double", np.float64)):
        text = GEMM.text.replace("float[", f"{name}[")
        typed = {key: value.astype(dtype) for key, value in GEMM.constants.items()}
        after = assert_equal_within_rounding(text, typed, GEMM.x.astype(dtype), terms=GEMM.terms)
        assert {value.dtype for value in initializers(after).values()} == {np.dtype(dtype)}


def test_the_default_epsilon_is_read_by_name() -> None:
    constants = {"w": np.ones((1, 1), np.float32), "v": np.zeros(1, np.float32), "g": np.ones(1, np.float32)}
    constants |= {"e": np.zeros(1, np.float32), "m": np.zeros(1, np.float32) + 1}
    text = f"g (float[1,1] x) => (float[1,1] y) {{ t = Gemm(x, w) y = {BN.replace('(t', '<momentum = 0.1>(t')} }}"
    folded = initializers(FOLD(build(text, constants)).model)["w"]
    np.testing.assert_array_equal(folded, np.float32(1 / np.sqrt(np.float64(np.float32(1e-5)))).reshape(1, 1))


SHARED = f"""g ({IMAGE}) => (float[1,4,3,3] y, float[1,4,3,3] z) {{
    [one] t = Conv(x, w, b) y = {BN}
    [two] z = Conv(x, w, b)
}}"""


@pytest.mark.parametrize("turned", [False, True])
def test_a_shared_weight_is_copied(turned: bool) -> None:
    before = build(SHARED, {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), **statistics(4)})
    if turned:
        before.graph.node.reverse()
    after = FOLD(before).model
    x = {"x": normal(0, 1, 4, 5, 5)}
    old, new = run(before, x), run(after, x)
    np.testing.assert_array_equal(new["z"], old["z"])
    np.testing.assert_allclose(new["y"], old["y"], rtol=0, atol=90 * np.finfo(np.float32).eps * np.abs(old["y"]).max())
    np.testing.assert_array_equal(initializers(after)["w"], initializers(before)["w"])
    assert {"w_folded", "one_bias"} <= set(initializers(after))


def test_two_producers_that_share_a_weight_both_fold() -> None:
    text = SHARED.replace("[two] z = Conv(x, w, b)", "[two] s = Conv(x, w, b) z = BatchNormalization(s, g, e, m, v)")
    before = build(text, {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), **statistics(4)})
    after = FOLD(before).model
    assert operators(after) == ["Conv", "Conv"]
    assert {"w", "w_folded"} <= set(initializers(after))
    assert operators(prepare(before).model) == ["Conv", "Identity"]  # they are the same
    x = {"x": normal(0, 1, 4, 5, 5)}
    np.testing.assert_array_equal(run(after, x)["y"], run(after, x)["z"])
    old = run(before, x)["y"]
    np.testing.assert_allclose(run(after, x)["y"], old, rtol=0, atol=90 * np.finfo(np.float32).eps * np.abs(old).max())


def test_generated_names_give_way_to_names_that_are_there() -> None:
    text = SHARED.replace("y = Batch", "w_folded = Relu(x) one_bias = Neg(x) y = Batch")
    after = FOLD(build(text, {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), **statistics(4)})).model
    assert {"w_folded_1", "one_bias_1"} <= set(initializers(after))
    onnx.checker.check_model(after, full_check=True)


def test_order_in_the_file_does_not_matter() -> None:
    case = CASES["two in a row"]
    forward, backward = build(case.text, case.constants), build(case.text, case.constants)
    backward.graph.node.reverse()
    one, two = initializers(FOLD(forward).model), initializers(FOLD(backward).model)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)


def test_a_dead_channel_is_noted_and_silenced_only_on_demand() -> None:
    stats = statistics(6)
    stats["m"][2], stats["v"][2], stats["g"][2] = -1e-11, 1e-12, 1.0
    stats["m"][4] = -3.0
    stats["v"][4] = 0.0
    before = build(CASES["conv without bias"].text, {"w": normal(1, 6, 4, 3, 3), **stats})
    exact, silenced = FOLD(before), fold_batch_norm(zero_dead=True)(before)
    note = "BatchNormalization making ['y'] has 1 dead channels (|mean| and variance below 1e-10)"
    assert exact.notes[1] == f"fold-batch-norm: unnamed {note}, folded like the others"
    assert silenced.notes[1] == f"fold-batch-norm: unnamed {note}, silenced"
    weight, quiet = initializers(exact.model)["w"], initializers(silenced.model)["w"]
    assert np.abs(weight[2]).max() > 100
    np.testing.assert_array_equal(quiet[2], 0)
    np.testing.assert_array_equal(np.delete(quiet, 2, 0), np.delete(weight, 2, 0))
    x = {"x": normal(0, 1, 4, 5, 5)}
    np.testing.assert_allclose(run(exact.model, x)["y"], run(before, x)["y"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(silenced.model, x)["y"][0, 2], stats["e"][2], rtol=1e-6)


OTHERS = "not from Conv, ConvTranspose, Gemm, MatMul"
NORM = "BatchNormalization"
REFUSALS = {
    f"[n] y = {NORM}(x, g, e, m, v)": f"its input 'x' comes from a graph input or initializer, {OTHERS}",
    f"s = Conv(x, w, b) [r] t = Relu(s) [n] y = {BN}": f"its input 't' comes from Relu 'r', {OTHERS}",
    f"t = Conv(x, w, b) [n] y = {NORM}<training_mode = 1>(t, g, e, m, v)": "it is in training mode",
    f"t = Conv(x, w, b) [n] s = {BN} [k] u = Neg(t) y = Add(s, u)": "its input 't' is read by Neg 'k' too",
    f"[c] t = Conv(x, w, b) [n] y = {NORM}(t, g3, g3, g3, g3)": "it has 3 channels, Conv 'c' makes 4",
    f"t = Conv(x, w, b) [n] y = {NORM}(t, g3, e, m, v)": (
        "its scale, bias, mean and variance have [3, 4, 4, 4] values"
    ),
    f"t = Conv(x, w, b) s = Neg(g) [n] y = {NORM}(t, s, e, m, v)": "its scale 's' is computed",
    f"s = Neg(b) [c] t = Conv(x, w, s) [n] y = {BN}": "the bias 's' of Conv 'c' is computed",
    f"s = Neg(w) [c] t = Conv(x, s, b) [n] y = {BN}": "the weight 's' of Conv 'c' is computed",
    f"t = Conv(x, w, b) [n] y = {NORM}(t, g, e, m, minus)": (
        "channel 0 has no finite factor (variance -1.0, epsilon 1e-05)"
    ),
    f"[c] t = Conv(x, w, b) [n] y = {NORM}(t, huge, e, m, v)": (
        "the folded weight or bias of Conv 'c' would not be finite in float32"
    ),
}


@pytest.mark.parametrize("nodes", REFUSALS)
def test_what_cannot_be_folded_is_noted_with_the_reason(nodes: str) -> None:
    constants = {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), "g3": np.abs(normal(3, 3)), **statistics(4)}
    constants |= {"minus": -np.ones(4, np.float32), "huge": np.full(4, 3e38, np.float32)}
    constants["v"][:] = 1e-6
    before = build(f"g ({IMAGE}) => (float[A,B,C,D] y) {{ {nodes} }}", constants)
    result = FOLD(before)
    assert result.notes == (f"fold-batch-norm: left BatchNormalization 'n' alone: {REFUSALS[nodes]}",)
    assert result.model == before


def test_an_output_between_is_not_folded() -> None:
    text = f"g ({IMAGE}) => (float[1,4,3,3] y, float[1,4,3,3] t) {{ t = Conv(x, w, b) [n] y = {BN} }}"
    before = build(text, {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), **statistics(4)})
    result = FOLD(before)
    assert result.notes == ("fold-batch-norm: left BatchNormalization 'n' alone: its input 't' is a graph output too",)
    assert result.model == before


def test_a_tensor_that_a_subgraph_reads_is_not_folded() -> None:
    text = CAPTURING.replace("t = Relu(x)", f"t = Gemm(x, w) [n] s = {BN}")
    text = text.replace("=> (float[A,B] y) {\n    t", "=> (float[A,B] y, float[2,3] s) {\n    t").replace(
        "y = If", "[if] y = If"
    )
    before = build(text, {"w": normal(1, 3, 3), **statistics(3)})
    result = FOLD(before)
    assert result.notes == (
        "fold-batch-norm: left BatchNormalization 'n' alone: its input 't' is read in a subgraph of If 'if' too",
    )
    assert result.model == before


def test_what_training_and_old_versions_leave() -> None:
    constants = {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), **statistics(4)}
    text = f"g ({IMAGE}) => (float[1,4,3,3] y) {{ t = Conv(x, w, b) [n] y, a, c = {BN} }}"
    assert FOLD(build(text, constants, opset=12)).notes[0].endswith("it has 3 outputs, as in training")
    spatial = text.replace("y, a, c", "y").replace("(t", "<spatial = 0>(t")
    assert (
        FOLD(build(spatial, constants, opset=8))
        .notes[0]
        .endswith("it normalizes each position on its own (spatial is 0)")
    )


def test_a_matmul_with_other_ranks_is_not_folded() -> None:
    text = f"g (float[2,3,7] x) => (float[2,3,5] y) {{ [k] t = MatMul(x, w) [n] y = {BN} }}"
    assert FOLD(build(text, {"w": normal(1, 7, 5), **statistics(3)})).notes == (
        "fold-batch-norm: left BatchNormalization 'n' alone: the output channels of MatMul 'k' lie on axis 1 only if "
        "both ranks are 2, the ranks it multiplies are 3 and 2",
    )
    text = f"g (float[7,4] x) => (float[3,4] y) {{ [k] t = MatMul(w, x) [n] y = {BN} }}"
    assert FOLD(build(text, {"w": normal(1, 3, 7), **statistics(4)})).notes == (
        "fold-batch-norm: left BatchNormalization 'n' alone: the weight 'x' of MatMul 'k' is computed",
    )


def test_overridable_weights_are_not_taken_for_constants() -> None:
    text = f"g ({IMAGE}, float[4,4,3,3] w) => (float[1,4,3,3] y) {{ t = Conv(x, w) y = {BN} }}"
    with pytest.raises(PassError, match="initializer 'w' is a graph input too; run 'drop-initializer-inputs' first"):
        FOLD(build(text, {"w": normal(1, 4, 4, 3, 3), **statistics(4)}))


@settings(deadline=None, max_examples=50)
@given(groups=st.integers(1, 3), inputs=st.integers(1, 3), outputs=st.integers(1, 3), kernel=st.integers(1, 2))
def test_transposed_scaling_equals_a_loop(groups: int, inputs: int, outputs: int, kernel: int) -> None:
    weight, scale = normal(0, groups * inputs, outputs, kernel), normal(1, groups * outputs).astype(np.float64)
    expected = weight.astype(np.float64)
    for channel in range(groups * inputs):
        for out in range(outputs):
            expected[channel, out] *= scale[channel // inputs * outputs + out]
    np.testing.assert_array_equal(scale_transposed(weight, scale, groups), expected)


def test_the_affine_map_is_computed_in_double_precision() -> None:
    one = np.ones(1, np.float32)
    affine = channel_affine(one, 0 * one, 0 * one, 3 * one, epsilon=1e-5)
    assert affine.scale.dtype == np.float64
    assert affine.scale[0] == 1 / np.sqrt(3 + 1e-5)
