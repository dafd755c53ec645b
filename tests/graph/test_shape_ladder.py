"""The shape ladder: what each rung finds, what it never does, and its words when it gives up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.backend import Backend, OrtBackend
from quantlab.backend import symbolic as symbolic_module
from quantlab.backend.observed import observed_rung
from quantlab.backend.symbolic import Symbolic, symbolic_rung
from quantlab.errors import DataError, ModelError, QuantlabError
from quantlab.graph.passes import PassResult
from quantlab.graph.prepare.shapes import fill, onnx_rung, open_tensors, shape_pass
from quantlab.workflow.ladder import shape_ladder, without_type
from tests.graph.builders import Array, build, normal

MICROSOFT = {"com.microsoft": 1}
GELU = "g (float[N,3] x) => (float[A,B] y) { [k] t = com.microsoft.Gelu(x) [r] y = Relu(t) }"
INVERSE = """g (float[N,3,3] x) => (float[A,B,C] y) {
    [k] t = com.microsoft.Inverse(x) [r] u = Relu(t) [s] y = Neg(u)
}"""
CLASH = """g (float[N,3] x, float[M,3] z) => (float[A,B] y) {
    [k] t = Add(x, z) [h] h = com.microsoft.Gelu(t) [r] u = Relu(h) [s] y = Neg(u)
}"""
STOPPED = (
    "infer-shapes: onnxruntime's symbolic inference stopped at Inverse 'k'",
    "infer-shapes: onnxruntime's symbolic inference with clashing sizes taken as equal stopped at Inverse 'k'",
)


def known(model: onnx.ModelProto) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim],
        )
        for value in model.graph.value_info
    }


def second(text: str, options: Symbolic | None = None, **constants: Array) -> PassResult:
    model = build(text, constants, domains=MICROSOFT)
    return shape_pass(onnx_rung, symbolic_rung(options or Symbolic()))(model)


def identity(*sizes: int) -> list[dict[str, Array]]:
    return [{"x": np.tile(np.eye(3, dtype=np.float32), (size, 1, 1))} for size in sizes]


def test_each_rung_is_asked_only_about_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Any:
        raise AssertionError("the second rung was asked")

    monkeypatch.setattr(symbolic_module, "symbolic_shape_inference", never)
    model = build("g (float[2] x) => (float[2] y) { t = Relu(x) y = Neg(t) }")
    result = shape_ladder(batches=iter([]))(model)
    assert result.notes == ("infer-shapes: onnx found types and shapes of 1 tensors: 't'",)


def test_the_second_rung_knows_operators_of_onnxruntime() -> None:
    result = second(GELU)
    assert known(result.model) == {"t": (onnx.TensorProto.FLOAT, ["N", 3])}
    assert result.notes == ("infer-shapes: onnxruntime's symbolic inference found types and shapes of 1 tensors: 't'",)


def test_sizes_that_are_calculated_get_words_and_agree_with_runs() -> None:
    text = """g (float[N,4] x) => (float[A,B] y) {
        s = Shape(x) n = Gather(s, zero) d = Div(n, two) l = Unsqueeze(d, axes) p = Concat<axis=0>(l, rest)
        u = Reshape(x, p) v = Relu(u) y = Neg(v)
    }"""
    constants = {"zero": np.array(0), "two": np.array(2), "axes": np.array([0]), "rest": np.array([8])}
    plain = second(text, **constants)
    assert len(plain.notes) == 1  # types and ranks are known: nothing is open but names of sizes
    found = known(second(text, Symbolic(sizes=True), **constants).model)
    assert found["u"] == found["v"] == (onnx.TensorProto.FLOAT, ["floor(N/2)", 8])
    out = OrtBackend().open(plain.model, ["u"])({"x": normal(0, 6, 4)})["u"]
    assert out.shape == (6 // 2, 8)


def test_clashing_sizes_leave_ranks_and_on_request_sizes() -> None:
    result = second(CLASH)
    merged = "infer-shapes: onnxruntime's symbolic inference with clashing sizes taken as equal"
    assert f"{merged} found types and shapes of 2 tensors: 'h', 'u'" in result.notes
    assert known(result.model)["h"] == (onnx.TensorProto.FLOAT, ["", ""])
    # Which of the two names stays follows from the order of a set in onnxruntime, and so from Python's hash seed.
    merged_sizes = known(second(CLASH, Symbolic(auto_merge=True)).model)["h"][1]
    assert merged_sizes in (["M", 3], ["N", 3])


def test_broadcasting_sizes_that_clash_are_not_frozen_without_request() -> None:
    """N is 1 and M is 2 in a model that runs: a merged size would be wrong for it."""
    result = second(CLASH)
    out = OrtBackend().open(result.model)({"x": normal(0, 1, 3), "z": normal(1, 2, 3)})["y"]
    assert out.shape == (2, 3)
    assert all(not dim.dim_value for value in result.model.graph.value_info if value.name == "h" for dim in
               value.type.tensor_type.shape.dim)  # fmt: skip


def test_a_guessed_rank_is_taken_on_request_only() -> None:
    text = "g (float[N,3] x) => (float[A,B] y) { [k] t = com.microsoft.Nope(x) y = Neg(t) }"
    assert "t" not in known(second(text).model)
    assert known(second(text, Symbolic(guess_output_rank=True)).model)["t"][1] == ["Nope_0_o0__d0", "Nope_0_o0__d1"]


def test_what_was_found_before_a_stop_is_kept() -> None:
    text = (
        "g (float[3,3] x) => (float[A,B] y) { g = com.microsoft.Gelu(x) [k] t = com.microsoft.Inverse(g) y = Neg(t) }"
    )
    result = second(text)
    assert known(result.model) == {"g": (onnx.TensorProto.FLOAT, [3, 3])}
    assert result.notes == (
        "infer-shapes: onnxruntime's symbolic inference found types and shapes of 1 tensors: 'g'",
        *STOPPED,
        "infer-shapes: 1 of 3 tensors have no known shape, the first is 't' made by Inverse 'k'",
    )


def test_a_walk_that_takes_too_long_ends_with_what_it_has() -> None:
    moments = iter([0.0, 0.0, 0.5, 5.0, 5.0, 5.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symbolic_module, "monotonic", lambda: next(moments))
        result = second(
            "g (float[3,3] x) => (float[A,B] y) { a = com.microsoft.Gelu(x) b = com.microsoft.Gelu(a) y = Neg(b) }",
            Symbolic(seconds=1.0),
        )
    assert "infer-shapes: onnxruntime's symbolic inference ran out of time at unnamed Gelu making ['a']" in result.notes


def test_whatever_onnxruntime_raises_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: Any) -> None:
            self._onnx_infer_single_node = None

        def _preprocess(self, _: Any) -> None:
            raise TypeError("odd model\nsecond line")

    monkeypatch.setattr(symbolic_module, "symbolic_shape_inference", lambda: Broken)
    notes = second(GELU).notes
    assert notes[0] == "infer-shapes: onnxruntime's symbolic inference failed at the beginning: odd model"
    assert notes[-1] == "infer-shapes: 1 of 2 tensors have no known shape, the first is 't' made by Gelu 'k'"


def test_without_onnxruntime_or_sympy_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise QuantlabError("it needs sympy: pip install 'quantlab-onnx[runtime]'")

    monkeypatch.setattr(symbolic_module, "symbolic_shape_inference", missing)
    assert second(GELU).notes[0] == (
        "infer-shapes: onnxruntime's symbolic inference was not asked: it needs sympy: pip install "
        "'quantlab-onnx[runtime]'"
    )


def test_no_file_is_left_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    second(INVERSE)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ runs


def third(batches: Any, text: str = INVERSE, backend: Backend | None = None) -> PassResult:
    return shape_ladder(batches=batches, backend=backend)(build(text, domains=MICROSOFT))


def test_runs_show_types_ranks_and_sizes_that_stay() -> None:
    result = third(identity(2, 1))
    assert result.notes == (
        *STOPPED,
        "infer-shapes: running the model on 2 samples found types and shapes of 2 tensors: 't', 'u'",
    )
    assert known(result.model)["t"] == (onnx.TensorProto.FLOAT, ["", 3, 3])


def test_sizes_of_samples_that_are_all_alike_are_not_taken_for_those_of_all() -> None:
    for batches in (identity(2), identity(2, 2)):
        assert known(third(batches).model)["t"] == (onnx.TensorProto.FLOAT, ["", "", ""])


def test_sizes_that_follow_from_values_stay_open() -> None:
    text = """g (float[3,3] x) => (int64[A,B] y) {
        [k] t = com.microsoft.Inverse(x) z = NonZero(t) y = Neg(z)
    }"""
    fed = [{"x": np.eye(3, dtype=np.float32)}] * 2
    found = known(third(fed, text).model)
    assert found["t"] == (onnx.TensorProto.FLOAT, [3, 3])
    assert found["z"][0] == onnx.TensorProto.INT64
    assert not isinstance(found["z"][1][1], int)


def test_runs_contradict_nothing_that_is_known() -> None:
    model = build("g (float[2,3] x) => (float[2,3] y) { t = Relu(x) y = Neg(t) }")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, ["N", None]))
    kind = onnx.helper.make_tensor_type_proto
    assert fill(model, {"t": kind(onnx.TensorProto.DOUBLE, [2, 3])}) == []
    assert fill(model, {"t": kind(onnx.TensorProto.FLOAT, [2, 3, 1])}) == []
    assert fill(model, {"t": kind(onnx.TensorProto.FLOAT, [2, 3])}) == ["t"]
    assert known(model)["t"] == (onnx.TensorProto.FLOAT, ["N", 3])


def test_the_runs_are_few_and_go_through_the_backend() -> None:
    opened: list[Any] = []

    class Counting(OrtBackend):
        def open(self, model: onnx.ModelProto, tensors: Any = None) -> Any:
            opened.append(tensors)
            return super().open(model, tensors)

    def endless() -> Iterator[Mapping[str, Array]]:
        while True:
            yield from identity(1, 2)

    assert "running the model on 8 samples" in third(endless(), backend=Counting()).notes[2]
    assert opened == [["t", "u"]]


def test_a_model_that_does_not_run_is_refused_with_the_words_of_the_runtime() -> None:
    wrong = """g (float[N,3,3] x) => (float[A] y) <int64[1] seven = {7}> {
        t = com.microsoft.Inverse(x) [r] y = Reshape(t, seven)
    }"""
    with pytest.raises(ModelError, match=r"^onnxruntime fails on a sample: .*Reshape node. Name:'r'"):
        third(identity(1, 2), wrong)
    own = build("g (float[2] x) => (float[2] y) { [k] t = own.Thing(x) y = Neg(t) }", domains={"own": 1})
    with pytest.raises(ModelError) as caught:
        shape_ladder(batches=[{"x": normal(0, 2)}])(own)
    assert str(caught.value).startswith("onnxruntime does not load the model: ")
    assert str(caught.value).endswith(
        " (1 nodes are of operators that are neither ONNX's nor onnxruntime's own; the first is Thing 'k' of domain "
        "'own')"
    )


def test_no_samples_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        third([])
    assert str(caught.value) == "no data: types and shapes are to be taken from runs, and there is no sample to run"


def test_a_model_that_runs_only_without_inner_outputs_is_not_refused() -> None:
    def opened(_: onnx.ModelProto, tensors: Any = None) -> Any:
        if tensors is not None:
            raise ModelError("no")
        return lambda batch: {}

    backend: Any = SimpleNamespace(open=opened)
    model = build(INVERSE, domains=MICROSOFT)
    assert observed_rung(backend, identity(1))(model) == [
        "running the model showed nothing, it does not run with inner tensors as outputs: no"
    ]


def test_float32_of_a_model_with_bfloat16_says_nothing() -> None:
    text = f"""g (float[3,3] x) => (float[A,B] y) {{
        b = Cast<to={onnx.TensorProto.BFLOAT16}>(x) f = Cast<to=1>(b) t = com.microsoft.Inverse(f) y = Neg(t)
    }}"""
    assert "t" in open_tensors(third([{"x": np.eye(3, dtype=np.float32)}], text).model.graph)


def test_tensors_without_a_type() -> None:
    model = shape_pass(onnx_rung)(build(INVERSE, domains=MICROSOFT)).model
    assert without_type(model) == ["t", "u"]
    assert without_type(second(GELU).model) == []
