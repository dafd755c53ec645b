"""What a report says about models, plan and machine, in plain values."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from math import prod
from typing import Any

import onnx

from quantlab import __version__
from quantlab.backend.hardware import processor
from quantlab.graph.external import data_bytes, is_external
from quantlab.graph.view import default_opset
from quantlab.plan import QuantPlan
from quantlab.plan.options import options_to_json

PACKAGES = ("numpy", "onnx", "onnxruntime", "numba")
MOST_OPERATORS = 12


def model_facts(model: onnx.ModelProto) -> dict[str, Any]:
    """Describe a model: bytes, nodes, parameters, versions, and its commonest operators."""
    weights = model.graph.initializer
    outside = sum(data_bytes(tensor) or 0 for tensor in weights if is_external(tensor))
    return {
        "bytes": model.ByteSize() + outside,
        "nodes": len(model.graph.node),
        "parameters": sum(prod(tensor.dims) for tensor in weights),
        "opset": default_opset(model),
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "operators": Counter(node.op_type for node in model.graph.node).most_common(MOST_OPERATORS),
    }


def plan_facts(plan: QuantPlan) -> dict[str, Any]:
    """Describe a plan: how many nodes met which fate, which grids there are, and options that are not the default."""
    tensors = [tensor for part in plan.walk() for tensor in part.tensors.values()]
    return {
        "format": plan.format,
        "nodes": dict(Counter(node.status for node in plan.every_node().values())),
        "grids": [[*key, count] for key, count in Counter((one.role, str(one.spec)) for one in tensors).most_common()],
        "options": {**options_to_json(plan.layout), **options_to_json(plan.numerics)}
        | ({} if plan.min_real_range is None else {"min_real_range": plan.min_real_range}),
        "notes": list(plan.notes),
    }


def kept_in_float(plan: QuantPlan) -> list[dict[str, Any]]:
    """Return the nodes that stayed in float by reason, the commonest reason first."""
    groups: dict[str, list[list[str]]] = {}
    for name, node in plan.every_node().items():
        if node.status == "float":
            groups.setdefault(node.reason, []).append([name, node.op])
    return [{"reason": why, "nodes": groups[why]} for why in sorted(groups, key=lambda why: -len(groups[why]))]


def surroundings() -> dict[str, str]:
    """Return what a measurement depends on beside the model: versions, system and processor."""
    chip = processor()
    return {
        "quantlab": __version__,
        **dict(_versions()),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{chip.name} ({chip.cores} cores)",
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
