"""Explain: say in words why a node was quantized or not, and where a tensor's scale came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from quantlab.errors import OptionError, nearest
from quantlab.plan import QuantPlan, TensorPlan


def explain(plan: QuantPlan, name: str) -> list[str]:
    """Explain one node or tensor.

    Args:
        plan: The plan, with or without numbers.
        name: Name of a node or tensor; what has both names is explained as both.

    Returns:
        Lines of text.

    Raises:
        OptionError: There is no such node or tensor; the text gives the nearest.
    """
    lines = []
    nodes = plan.every_node()
    if name in nodes:
        node = nodes[name]
        lines.append(f"node {name!r} ({node.op}): {_STATUS[node.status]}: {node.reason}")
    absorbed = {tensor.absorbs: other for other, tensor in plan.tensors.items() if tensor.absorbs}
    lines += [line for key, body in plan.bodies.items() for line in _within(key, body, name)]
    if name in plan.tensors:
        lines += _tensor(name, plan.tensors[name])
    elif name in absorbed:
        lines.append(f"tensor {name!r}: no grid of its own: {absorbed[name]!r} takes over behind a Relu or Clip")
    if not lines:
        known = [*nodes, *plan.tensors, *absorbed]
        raise OptionError(f"no node or rounded tensor is called {name!r}{nearest(name, known)}")
    return lines


def _within(key: str, body: QuantPlan, name: str) -> list[str]:
    """Explain a tensor or node of a body, under its own name or as `"If_3.then_branch/name"`."""
    inner = name.removeprefix(f"{key}/")
    known = (
        inner in body.tensors or inner in body.every_node() or any(t.absorbs == inner for t in body.tensors.values())
    )
    return [f"in {key}:", *explain(body, inner)] if known else []


_STATUS = {"quantized": "quantized", "absorbed": "absorbed", "float": "left float"}


def _tensor(name: str, tensor: TensorPlan) -> Iterator[str]:
    yield f"tensor {name!r}: {tensor.role}, {tensor.spec}"
    yield f"  why: {tensor.reason}"
    if tensor.like is not None:
        yield f"  grid: shared with {tensor.like!r}"
    if tensor.range_of is not None:
        yield f"  range: taken from {tensor.range_of!r}, the only thing that reads it"
    if tensor.values is not None:
        lo, hi = (_numbers(end) for end in (tensor.values.lo, tensor.values.hi))
        yield f"  range: {lo} .. {hi}"
    if tensor.source:
        yield f"  source: {tensor.source}"
    if tensor.qparams is not None:
        grid = tensor.qparams
        yield f"  scale: {_numbers(grid.scale)}   zero point: {_numbers(grid.zero_point)}"
        if tensor.product is None:
            yield f"  formula: {_formula(tensor)}"
    if (second := tensor.convert) is not None:
        who = "its readers" if second.readers is None else ", ".join(second.readers)
        yield f"  converted for {who}: {second.spec}"
        if second.qparams is not None:
            numbers = _numbers(second.qparams.scale), _numbers(second.qparams.zero_point)
            yield f"  converted scale: {numbers[0]}   zero point: {numbers[1]}"
    if tensor.readers is not None:
        yield f"  read rounded only by: {', '.join(tensor.readers) or 'nobody'}"


def _formula(tensor: TensorPlan) -> str:
    spec = tensor.spec
    if spec.symmetric:
        return f"scale = 2 max(|lo|, |hi|) / ({spec.qmax} - {spec.qmin}), zero point in the middle of the grid"
    return (
        f"scale = (max(hi, 0) - min(lo, 0)) / ({spec.qmax} - {spec.qmin}), zero point = rint({spec.qmin} - lo / scale)"
    )


def _numbers(values: npt.NDArray[Any]) -> str:
    if values.size == 1:
        return f"{values.item():.9g}"
    return f"{values.size} values from {values.min():.6g} to {values.max():.6g}"
