"""Gather from a constant table: the table becomes integers, and what is looked up shares its grid."""

from tests.operators.harness import PLAIN, UINT8, Case, Scheme, each, executed, initializers, judge, normal, quantized

TABLE = Case(
    name="gather-table",
    text="g (int64[7] i) => (float[7,16] y) { y = Gather(w, i) }",
    feeds={"i": (7,)},
    constants={"w": normal(3, 16)},
    schemes=PLAIN,
)
ELEMENTS = Case(
    name="gather-elements-table",
    text="g (int64[3,16] i) => (float[3,16] y) { y = GatherElements(w, i) }",
    feeds={"i": (3, 16)},
    constants={"w": normal(3, 16)},
    schemes=PLAIN,
)
CASES = (TABLE, ELEMENTS)


@each(*CASES)
def test_the_written_model_equals_the_oracle(case: Case, scheme: Scheme) -> None:
    judge(case, quantized(case, scheme))


def test_the_table_is_stored_as_integers_and_never_measured() -> None:
    result = quantized(TABLE, UINT8)
    assert result.plan.tensors["y"].like == "w"
    assert result.plan.tensors["w"].role == "weight"
    assert result.plan.observed() == []
    stored = initializers(result.model)
    assert "w" not in stored
    assert stored["w_quantized"].dtype == "uint8"
    assert executed(result.model) == ["Gather", "DequantizeLinear"]
