"""Constants that are no weights give a bit away only where that is asked for; then as in onnxruntime.quantization."""

from dataclasses import replace

import pytest

from quantlab.plan import Numerics
from quantlab.workflow.quantize import quantize
from tests.operators.harness import REDUCED, Case, initializers, normal
from tests.operators.peer import differences, peer_model

CASE = Case(
    name="constants",
    text="g (float[1,4,8] x) => (float[1,4,5] y) { t = Add(x, c) y = MatMul(t, w) }",
    feeds={"x": (1, 4, 8)},
    constants={"c": normal(4, 8), "w": normal(8, 5, seed=1)},
)


@pytest.mark.parametrize("reduced", [False, True])
def test_constants_beside_weights(reduced: bool) -> None:
    recipe = replace(REDUCED.recipe(), numerics=Numerics(reduced_constants=reduced))
    result = quantize(CASE.model(), CASE.batches(), recipe)
    peer = peer_model(result.prepared.model, REDUCED, CASE.batches())
    found = differences(result.model, peer)
    assert found == ({} if reduced else {"bytes": ["c_quantized", "c_scale", "c_zero_point"]})
    levels = initializers(result.model)["c_quantized"]
    assert int(levels.max()) - int(levels.min()) == (127 if reduced else 255)
