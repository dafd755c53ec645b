"""Models and findings for pages, made by hand: what a comparison would give, without running anything."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.arrays import INT8, UINT8, QuantSpec, Range, qparams_from_range
from quantlab.calibration import Histogram
from quantlab.debug.findings import Attribution, Channels, Comparison, Source, TensorError, Unmatched
from quantlab.plan import NodePlan, QuantPlan
from quantlab.rewrite.provenance import embed_plan

CHANNELS = 8
BLOCK = ("Conv", "Relu", "Conv", "Add", "Relu")


def residual_model(nodes: int, prefix: str = "/features/stage") -> onnx.ModelProto:
    """Return a chain of residual blocks with so many nodes in all."""
    made, weights, value, skip = [], [], "image", "image"
    for index in range(nodes):
        op = BLOCK[index % len(BLOCK)] if index < nodes - nodes % len(BLOCK) else "Relu"
        name = f"{prefix}{index // len(BLOCK)}/{op}_{index}"
        out = f"{name}_output_0" if index < nodes - 1 else "logits"
        reads = [value]
        if op == "Conv":
            weights.append(
                numpy_helper.from_array(np.eye(CHANNELS, dtype=np.float32)[:, :, None, None], f"{name}.weight")
            )
            reads.append(f"{name}.weight")
        if op == "Add":
            reads.append(skip)
        made.append(helper.make_node(op, reads, [out], name=name))
        value = out
        skip = out if index % len(BLOCK) == len(BLOCK) - 1 else skip
    given, got = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, 4, 4]) for name in ("image", "logits")
    )
    graph = helper.make_graph(made, "residual", [given], [got], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def tensor_error(name: str, kind: str, node: str, op: str, db: float, random: np.random.Generator) -> TensorError:
    """Return a finding with everything a row can have."""
    values = random.standard_normal(400).astype(np.float32) * 2
    values = np.maximum(values, 0) if op == "Relu" else values
    grid = qparams_from_range(Range(values.min() * 0.8, values.max() * 0.9), QuantSpec(dtype=UINT8))
    channels = None
    if kind == "weight":
        widths = random.lognormal(0, 0.8, 150)
        grid = qparams_from_range(
            Range(-widths, widths), QuantSpec(dtype=INT8, symmetric=True, narrow_range=True, axis=0)
        )
        channels = Channels(axis=0, lo=-widths * 0.9, hi=widths, sqnr_db=random.uniform(8, 50, 150))
    rounded = kind != "output"
    return TensorError(
        name=name,
        kind=kind,
        node=node,
        op_type=op,
        dtype=("int8" if kind == "weight" else "uint8") if rounded else "float32",
        grid=grid if rounded else None,
        lo=float(values.min()),
        hi=float(values.max()),
        below=0.002 if rounded else 0.0,
        above=0.001 if rounded else 0.0,
        rounding=0.7,
        clipping_below=0.2,
        clipping_above=0.1,
        local_db=db + 8 if rounded else float("inf"),
        sqnr_db=db,
        cosine=0.9991,
        mse=1e-4,
        max_error=0.125,
        count=values.size,
        histogram=Histogram().update(values),
        channels=channels,
    )


def findings(model: onnx.ModelProto, *, attribution: bool = False) -> Comparison:
    """Return what a comparison of a model could have found, error growing with depth."""
    random = np.random.default_rng(0)
    nodes, count = model.graph.node, len(model.graph.node)
    rows = [tensor_error("image", "activation", nodes[0].name, nodes[0].op_type, 48.0, random)]
    for index, node in enumerate(nodes):
        db = 45 - 40 * index / count + float(random.normal(0, 2))
        rows.append(tensor_error(node.output[0], "activation", node.name, node.op_type, db, random))
        rows += [
            tensor_error(name, "weight", node.name, node.op_type, 40.0, random)
            for name in node.input
            if name.endswith(".weight")
        ]
    last = rows[-1] if rows[-1].kind == "activation" else rows[-2]
    return Comparison(
        tensors=tuple(sorted(rows, key=lambda row: row.sqnr_db)),
        outputs=(tensor_error(last.name, "output", last.node, last.op_type, last.sqnr_db, random),),
        agreement=0.9834,
        metrics={},
        samples=32,
        unmatched=(Unmatched(name="lost", reason="nothing in the float model has its name"),),
        attribution=split(rows) if attribution else None,
    )


def split(rows: list[TensorError]) -> Attribution:
    """Return an attribution to the first few tensors."""
    sources = [
        Source(
            tensor=row.name,
            part="weight" if row.kind == "weight" else "rounding",
            node=row.node,
            estimate=0.5 / (index + 1),
            alone=0.4 / (index + 1),
            relieved=0.3 / (index + 1) if index else None,
            advice=f"Advice number {index}: give it 16 bits.",
        )
        for index, row in enumerate(rows[:12])
    ]
    return Attribution(
        sqnr_db=12.5,
        simulated_db=13.0,
        sources=tuple(sources),
        alone=0.8,
        interaction=0.15,
        requantization=0.05,
        samples=32,
    )


def planned(model: onnx.ModelProto, kept: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Return the model with a plan in its metadata that leaves operators of some types in float."""
    nodes = {
        node.name: NodePlan(op=node.op_type, status="float", reason=f"there is no rule for operator {node.op_type}")
        if node.op_type in kept
        else NodePlan(op=node.op_type, status="quantized", reason="it is asked for")
        for node in model.graph.node
    }
    return embed_plan(model, QuantPlan(tensors={}, nodes=nodes, notes=("pattern 'head*' matched nothing",)))


@pytest.fixture(scope="session")
def made():
    """Return the makers: a model, its findings, its plan."""
    return residual_model, findings, planned
