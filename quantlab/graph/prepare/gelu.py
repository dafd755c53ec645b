"""The nodes of a Gaussian error linear unit become one Gelu.

    Gelu(x) = x * 0.5 * (1 + erf(x / sqrt(2)))          (Hendrycks and Gimpel 2016)

The three factors may be multiplied in any order, and x / sqrt(2) may be written as x * sqrt(1/2). Left in pieces, a
quantized model rounds each of them onto a grid of its own. The numbers have to be the right ones up to rounding; other
numbers are another function and are left alone. Gelu came with opset 20; for older models onnxruntime has an operator
of its own, which other runtimes do not know, so that it is used on request only.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import is_standard, label, remove_nodes
from quantlab.graph.prepare.inputs import missing_constants
from quantlab.graph.prepare.patterns import is_near, maker, next_node, number, other_input
from quantlab.graph.view import GraphView, default_opset

GELU_OPSET = 20
"""The first operator set that has Gelu."""

_DOMAIN = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class _Found:
    x: str
    last: onnx.NodeProto
    rest: tuple[onnx.NodeProto, ...]


def fuse_gelu(*, contrib: bool = False) -> Pass:
    """Make the pass that puts Gelu in the place of its parts.

    Args:
        contrib: Below opset 20, write onnxruntime's own operator `com.microsoft.Gelu`.

    Returns:
        The pass. It notes an Erf that is nearly a Gelu, with the number that is different.
    """

    def edit(piece: Workpiece) -> list[str]:
        return _edit(piece, contrib)

    return Pass(name="fuse-gelu", edit=edit, requires=missing_constants)


def _edit(piece: Workpiece, contrib: bool) -> list[str]:
    if "Erf" not in piece.operators:
        return []
    view = piece.view
    standard = default_opset(piece.model) >= GELU_OPSET
    removed: set[int] = set()
    notes = []
    for node in view.nodes:
        found = _match(node, view) if is_standard(node, "Erf") else None
        if isinstance(found, _Found) and not (standard or contrib):
            found = f"opset {default_opset(piece.model)} has no Gelu, which came with {GELU_OPSET}"
        if isinstance(found, str):
            notes.append(f"left {label(node)} alone: {found}")
        elif found is not None:
            removed.update(map(id, found.rest))
            notes.append(f"fused {len(found.rest) + 1} nodes around {label(node)} into Gelu {found.last.name!r}")
            _write(found, "" if standard else _DOMAIN)
    remove_nodes(piece.model.graph, removed)
    if removed and not standard and all(entry.domain != _DOMAIN for entry in piece.model.opset_import):
        piece.model.opset_import.add(domain=_DOMAIN, version=1)
    return notes


def _match(erf: onnx.NodeProto, view: GraphView) -> _Found | str | None:
    scaled = view.producers.get(erf.input[0])
    plus = next_node(erf.output[0], "Add", view)
    product = None if plus is None else next_node(plus.output[0], "Mul", view)
    if scaled is None or plus is None or product is None or view.only_reader(erf.input[0]) is None:
        return None
    one, x = other_input(plus, erf.output[0]), _unscaled(scaled, view)
    if x is None or one is None or number(one, view) is None:
        return None
    halves = _product(product, plus.output[0], x, view)
    if halves is None:
        return None
    half, last, more = halves
    root, sign = (2.0**0.5, "sqrt(2)") if scaled.op_type == "Div" else (0.5**0.5, "sqrt(1/2)")
    by = other_input(scaled, x) or x
    for name, wanted, shown in ((one, 1.0, "1"), (half, 0.5, "0.5"), (by, root, sign)):
        if not is_near(name, wanted, view):
            return f"its constant {name!r} is {number(name, view)!r}, not {shown}"
    return _Found(x=x, last=last, rest=(scaled, erf, plus, *more))


def _unscaled(node: onnx.NodeProto, view: GraphView) -> str | None:
    """Return what a node multiplies or divides by a number."""
    if not is_standard(node, "Mul", "Div"):
        return None
    first, second = node.input
    if number(second, view) is not None:
        return str(first)
    return str(second) if node.op_type == "Mul" and number(first, view) is not None else None


def _product(
    first: onnx.NodeProto, factor: str, x: str, view: GraphView
) -> tuple[str, onnx.NodeProto, tuple[onnx.NodeProto, ...]] | None:
    """Return the constant that is multiplied with `factor` and x, the node that ends it, and the other nodes."""
    other = other_input(first, factor)
    if other is None:
        return None
    inner = maker(other, "Mul", view)
    if inner is not None and x in inner.input and other != x:  # (x half) factor
        half = other_input(inner, x)
        if half is None or number(half, view) is None or view.only_reader(other) is None:
            return None
        return half, first, (inner,)
    last = next_node(first.output[0], "Mul", view)
    end = None if last is None else other_input(last, first.output[0])
    if last is None or end is None:
        return None
    if other == x and number(end, view) is not None:  # (x factor) half
        return end, last, (first,)
    if end == x and number(other, view) is not None:  # x (factor half)
        return other, last, (first,)
    return None


def _write(found: _Found, domain: str) -> None:
    """Make the last node the Gelu: it comes after all that is read, and it has the name of the output's maker."""
    node = found.last
    del node.attribute[:]
    del node.input[:]
    node.op_type, node.domain = "Gelu", domain
    node.input.append(found.x)
