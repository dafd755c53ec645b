"""Shadows: the error of one node alone, against a node that is run by hand on the float network's values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import quantlab
from quantlab import demo
from quantlab.arrays import fake_quant, sqnr
from quantlab.debug.shadow import shadow_compare
from quantlab.errors import DataError
from tests.debug.renaming import renamed
from tests.operators.harness import INT8, quantized
from tests.operators.qoperator_cases import BY_NAME

SAMPLES = [{"image": image[None]} for image in demo.digits().test_images[:8]]


def test_a_shadow_inherits_nothing():
    case = BY_NAME["residual"]
    result = quantized(case, INT8)
    rows = {row.node: row for row in shadow_compare(case.model(), result.model, case.batches())}
    exact = result.prepared.model
    tensors = {name: tensor.qparams for name, tensor in result.plan.tensors.items()}
    view = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in exact.graph.initializer}
    for node in (each for each in exact.graph.node if each.op_type in ("Conv", "Add")):
        inner = [name for name in node.input if name not in view]
        after = next(
            (each.output[0] for each in exact.graph.node if each.input[0] == node.output[0] and each.op_type == "Relu"),
            None,
        )
        end = after or node.output[0]
        copy = onnx.ModelProto()
        copy.CopyFrom(exact)
        wanted = [*inner, end]
        del copy.graph.output[:]
        copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in wanted)
        lone = onnx.helper.make_graph(
            [node],
            "one",
            [onnx.helper.make_tensor_value_info(name, 1, None) for name in node.input],
            [onnx.helper.make_tensor_value_info(node.output[0], 1, None)],
        )
        one = ReferenceEvaluator(onnx.helper.make_model(lone, opset_imports=exact.opset_import))
        ends, shadows = [], []
        for batch in case.batches():
            own = {name: batch[name] for name in batch}
            computed = [name for name in wanted if name not in own]
            del copy.graph.output[:]
            copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in computed)
            values = own | dict(zip(computed, ReferenceEvaluator(copy).run(None, own), strict=True))
            fed = {name: fake_quant(values.get(name, view.get(name)), tensors[name]) for name in node.input}
            shadows.append(fake_quant(one.run(None, fed)[0], tensors[end]))
            ends.append(values[end])
        want = sqnr(np.concatenate(ends), np.concatenate(shadows))
        # An operator on integers may put a value that lies between two levels on the other one.
        assert rows[node.name].sqnr_db == pytest.approx(want, abs=0.2)
        assert rows[node.name].tensor == end


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_channel": True},
        {"quant_format": "QOperator", "activation_type": "QUInt8"},
        {"activation_type": "QInt16"},
        {"weight_type": "QInt4"},
    ],
)
def test_every_kind_of_model_has_shadows(options):
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES, **options)
    model = quantlab.load(demo.float_model())
    rows = shadow_compare(model, result.model, SAMPLES)
    assert {row.tensor for row in rows} >= {"stem_relu_out", "residual_out", "logits"}
    decibels = [row.sqnr_db for row in rows]
    assert decibels == sorted(decibels)
    # Behind many nodes, the accumulated error is larger than that of the last one alone.
    accumulated = {row.name: row.sqnr_db for row in quantlab.compare(model, result.model, SAMPLES).tensors}
    assert next(row for row in rows if row.tensor == "logits").sqnr_db > accumulated["logits"]
    assert rows[0].to_json()["sqnr_db"] == rows[0].sqnr_db
    again = shadow_compare(model, renamed(result.model), SAMPLES)
    assert [row.tensor for row in again] == [row.tensor for row in rows]


def test_without_data_there_are_no_errors():
    result = quantlab.quantize_static(demo.float_model(), None, SAMPLES)
    with pytest.raises(DataError, match="there is no data to compare on: give at least one sample"):
        shadow_compare(quantlab.load(demo.float_model()), result.model, [])
