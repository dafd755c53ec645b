"""What a report holds is what comparing found: nothing lost, nothing made up, for models by us and by others."""

from __future__ import annotations

import json
import re
from itertools import chain

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import quantlab
from quantlab.debug.findings import Channels
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, OptionError
from quantlab.graph import GraphView
from quantlab.graph.layout import layered
from quantlab.pages.drawing import drawing
from quantlab.pages.facts import kept_in_float, model_facts, plan_facts
from quantlab.pages.report import report_page
from quantlab.pages.rows import MOST_BARS, bars, rounded, rows

KEPT = quantlab.RecipeRule(nodes=("/head/Conv",), quantize=False)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.html, re.DOTALL)[1])


def samples(count=24):
    return [{"image": image[None]} for image in digits().test_images[:count]]


@pytest.fixture(scope="module")
def model():
    return quantlab.load(float_model())


@pytest.fixture(scope="module")
def quantized(model):
    recipe = quantlab.Recipe(per_channel=True, rules=(KEPT,))
    return quantlab.quantize(model, [{"image": digits().train_images[:64]}], recipe).model


@pytest.fixture(scope="module")
def shown(model, quantized):
    return data_of(quantlab.report(model, quantized, samples(), title="digits"))


def test_every_tensor_and_output_has_its_row(model, quantized, shown):
    found = quantlab.compare(model, quantized, samples())
    rows_by_name = {(row["name"], row["kind"]): row for row in shown["tensors"]}
    assert set(rows_by_name) == {(row.name, row.kind) for row in (*found.tensors, *found.outputs)}
    for row in (*found.tensors, *found.outputs):
        assert rows_by_name[row.name, row.kind]["sqnr_db"] == pytest.approx(row.sqnr_db, rel=1e-4)
    assert shown["agreement"] == found.agreement
    assert (shown["samples"], shown["title"]) == (24, "digits")


def test_histograms_count_every_value(shown):
    for row in shown["tensors"]:
        if row["grid"] is not None:
            assert sum(row["histogram"]["counts"]) == row["count"], row["name"]
            last = row["histogram"]["start"] + row["histogram"]["step"] * len(row["histogram"]["counts"])
            assert row["histogram"]["start"] <= row["lo"] <= row["hi"] <= last * (1 + 1e-4) + 1e-9


def test_the_grid_is_that_of_the_plan_with_its_reasons(shown):
    weight = next(row for row in shown["tensors"] if row["name"] == "stem_conv.weight")
    assert weight["grid"]["spec"] == "int8, symmetric, narrow_range, per channel of axis 0"
    assert (weight["grid"]["qmin"], weight["grid"]["qmax"]) == (-127, 127)
    assert weight["why"] == "weight read by Conv '/stem/Conv'"
    pooled = next(row for row in shown["tensors"] if row["name"] == "pool_out")
    assert pooled["like"] == "residual_out"


def test_nodes_left_in_float_come_with_their_reasons(shown):
    assert [name for group in shown["kept"] for name, _ in group["nodes"]] == ["/head/Conv", "/head/Relu"]
    assert all(group["reason"] for group in shown["kept"])
    boxes = {box["name"]: box for box in shown["graph"]["nodes"]}
    assert boxes["/head/Conv"]["status"] == "float"
    assert shown["plan"]["nodes"]["float"] == 2


def test_a_model_without_a_plan_has_no_reasons(model, quantized):
    bare = onnx.ModelProto()
    bare.CopyFrom(quantized)
    del bare.metadata_props[:]
    shown = data_of(quantlab.report(model, bare, samples(2)))
    assert shown["plan"] is None
    assert shown["kept"] == []
    assert all("status" not in box for box in shown["graph"]["nodes"])
    assert "why" not in shown["tensors"][0]


def test_attribution_is_there_where_it_was_asked_for(model, quantized, shown):
    assert shown["attribution"] is None
    asked = data_of(quantlab.report(model, quantized, samples(2), attribute=True))["attribution"]
    assert asked["samples"] == 2
    assert all(source["advice"] for source in asked["sources"])


def test_attribution_refuses_data_that_is_gone_and_states(model, quantized):
    with pytest.raises(DataError, match="to find out where error comes from takes several passes, and this data can"):
        quantlab.report(model, quantized, iter(samples(2)), attribute=True)
    with pytest.raises(OptionError, match=r"cannot feed back \['logits'\]: leave out either attribute or state"):
        quantlab.report(model, quantized, samples(2), attribute=True, state={"logits": "image"})


def test_the_title_is_the_name_of_the_graph_unless_given(made):
    model, findings, planned = made
    float_model = model(5)
    assert data_of(report_page(findings(float_model), float_model, planned(float_model)))["title"] == "residual"


def test_a_float_model_that_was_not_prepared_is_drawn_as_it_was_compared(made):
    model, findings, _ = made
    plain = model(5)
    doubled = helper.make_node("Identity", ["logits"], ["again"], name="again")
    plain.graph.node.append(doubled)
    names = {box["name"] for box in data_of(report_page(findings(plain), plain, plain))["graph"]["nodes"]}
    assert "again" in names  # preparation takes it out, and the finding of its output with it


def test_boxes_stand_where_the_layout_has_them(model):
    view = GraphView.of(model)
    found, layout = drawing(view, {}), layered(view)
    assert {(box["name"], box["y"]) for box in found["nodes"]} == {(one.name, one.layer) for one in layout.vertices}
    assert [box["op"] for box in found["nodes"]][:2] == ["input", view.nodes[0].op_type]
    assert found["nodes"][-1]["op"] == "output"
    boxes = found["nodes"]
    inner = [(boxes[a], boxes[b]) for a, b, *_ in found["edges"] if a and b + 1 < len(boxes)]
    pairs = {(one["name"], other["name"]) for one, other in inner}
    naive = {(one.name, other.name) for one in view.nodes for other in view.nodes if set(one.output) & set(other.input)}
    assert pairs == naive


def test_edges_bend_in_every_row_between(model):
    found = drawing(GraphView.of(model), {})
    for a, b, *bends in found["edges"]:
        between = range(found["nodes"][a]["y"] + 1, found["nodes"][b]["y"])
        assert bends[1::2] == list(between)


def test_a_graph_without_nodes_is_drawn():
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[N] x) => (float[N] x) { }'
    found = drawing(GraphView.of(onnx.parser.parse_model(text)), {})
    assert [box["op"] for box in found["nodes"]] == ["input", "output"]


@pytest.mark.parametrize("count", [1, MOST_BARS, MOST_BARS + 1, 1000])
def test_bars_cover_all_channels_in_order(count):
    random = np.random.default_rng(count)
    lo, hi, sqnr = -random.random(count), random.random(count), random.random(count)
    found = bars(Channels(axis=0, lo=lo, hi=hi, sqnr_db=sqnr))
    assert len(found["lo"]) == -(-count // found["each"]) <= MOST_BARS
    groups = [range(first, min(count, first + found["each"])) for first in range(0, count, found["each"])]
    assert list(chain.from_iterable(groups)) == list(range(count))
    assert found["lo"] == [min(lo[i] for i in group) for group in groups]
    assert found["hi"] == [max(hi[i] for i in group) for group in groups]
    assert found["sqnr_db"] == [min(sqnr[i] for i in group) for group in groups]


def test_numbers_that_json_lacks_become_nothing():
    assert rounded([float("inf"), float("nan"), 1 / 3, 7, "x", None]) == [None, None, 0.33333, 7, "x", None]


def test_rows_without_a_plan_keep_the_grid_that_was_found(made):
    model, findings, _ = made
    found = findings(model(5)).tensors
    row = rows(found[:1], {})[0]
    assert row["grid"]["spec"] == str(found[0].grid.spec)
    assert "why" not in row


def test_bytes_of_a_model_are_those_of_its_file(model):
    assert model_facts(model)["bytes"] == len(model.SerializeToString())
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert model_facts(model)["parameters"] == sum(weight.size for weight in weights)


def test_facts_of_a_plan_count_every_node(model):
    plan = quantlab.decide(quantlab.prepare_for(model, recipe := quantlab.Recipe(rules=(KEPT,))), recipe)
    assert sum(plan_facts(plan)["nodes"].values()) == len(plan.nodes)
    assert sum(count for *_, count in plan_facts(plan)["grids"]) == len(plan.tensors)
    sizes = [len(group["nodes"]) for group in kept_in_float(plan)]
    assert sizes == sorted(sizes, reverse=True)
