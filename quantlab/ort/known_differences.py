"""Differences to the quantizer of onnxruntime that are on purpose: how to know one, and what it is.

Each entry looks at what differs and says why, or says nothing. docs/onnxruntime.md has them with their proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quantlab.graph import GraphView
from quantlab.plan import NodePlan, QuantPlan


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What is known where two models differ.

    Attributes:
        plan: Ours.
        view: The float model that was quantized.
        graph: What differs in the graphs; see `quantlab.ort.crosscheck.graph_differences`.
        tensors: Tensors of the float model whose scale, zero point or integers differ.
        options: The arguments of `quantize_static` that both were made with.
    """

    plan: QuantPlan
    view: GraphView
    graph: tuple[str, ...]
    tensors: frozenset[str]
    options: Mapping[str, Any]

    def reading(self) -> list[NodePlan]:
        """Return what our plan says of the nodes that read or make something else than the peer's."""
        names = [line.removeprefix("reads ") for line in self.graph if line.startswith("reads ")]
        return [self.plan.nodes[name] for name in names if name in self.plan.nodes]


Known = Callable[[Difference], str | None]

SUFFIXES = (
    "_scale",
    "_zero_point",
    "_quantized",
    "_QuantizeLinear",
    "_DequantizeLinear",
    "_Output",
    "_Input",
    "_quant",
)


def base(name: str) -> str:
    """Return the tensor or node of the float model that a name in a quantized one was made from.

    Example:
        >>> base("conv1.weight_quantized_scale"), base("x_DequantizeLinear_Output_1")
        ('conv1.weight', 'x')
    """
    head, _, tail = name.rpartition("_")
    name = head if head and tail.isdigit() and base(head) != head else name
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return base(name.removesuffix(suffix))
    return name


def known_differences(found: Difference) -> list[str]:
    """Name the known differences that show in two models, a sentence for each."""
    return [words for known in KNOWN if (words := known(found)) is not None]


def _constants(found: Difference) -> str | None:
    nodes = next((line.split() for line in found.graph if line.startswith("Constant ")), None)
    if nodes is None:
        return None
    return (
        f"what {nodes[2]} Constant nodes make is stored as integers, as weights are; the peer keeps the nodes and "
        "rounds what they make each time the model runs"
    )


def _clipping(found: Difference) -> str | None:
    kept = [line.split() for line in found.graph if line.startswith(("Relu ", "Clip "))]
    if not any(int(ours) > int(peer) for _, ours, peer in kept):
        return None
    return (
        "a Relu or Clip stays where the grid behind it reaches past its bounds; the peer removes it all the same, and "
        "values come out that the float model cuts off"
    )


def _overrides(found: Difference) -> str | None:
    named = (found.options.get("extra_options") or {}).get("TensorQuantOverrides") or {}
    ours = [name for name in named if f"tensor +{name}" in found.graph]
    if not ours:
        return None
    return (
        f"tensor {ours[0]!r} has the grid that its override asks for; the peer drops the tensor together with the "
        "Relu or Clip behind it, and the override with both"
    )


FOLLOWING = (
    "ArgMax", "AveragePool", "Clip", "Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Relu", "Reshape",
    "Resize", "Slice", "Split", "Squeeze", "TopK", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
"""Operators that ask for no grid of their input, and use one that is there."""


def _order(found: Difference) -> str | None:
    following = [node.op for node in found.reading() if node.status == "quantized" and node.op in FOLLOWING]
    made = [found.view.producers.get(base(line.split()[-1][1:])) for line in found.graph]
    following += [node.op_type for node in made if node is not None and node.op_type in FOLLOWING]
    if not following:
        return None
    return (
        f"{following[0]} is quantized wherever its input has a grid; the peer's is only where a node that asks for the "
        "grid comes before it in the file"
    )


def _outputs(found: Difference) -> str | None:
    for name in sorted(found.tensors & set(found.view.outputs)):
        readers = found.view.readers(name)
        if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
            return (
                f"graph output {name!r} has the range of its values; the peer gives it that of {readers[0].op_type} "
                f"{readers[0].name!r} behind it, and cuts off what callers see"
            )
    return None


def _channels(found: Difference) -> str | None:
    if not found.options.get("per_channel"):
        return None
    for name in sorted(found.tensors & found.view.constants.keys()):
        readers = [node.op_type for node in found.view.readers(name)]
        if "MatMul" in readers and name in found.plan.tensors and found.plan.tensors[name].spec.axis is None:
            return (
                f"constant {name!r} of MatMul gets one scale: its channels would lie on an axis that sums run over, or "
                "on one of several matrices; the peer puts them there, and no integer kernel can apply them"
            )
    return None


def _twice(found: Difference) -> str | None:
    if not (found.options.get("extra_options") or {}).get("DedicatedQDQPair"):
        return None
    for name in found.plan.tensors:
        nodes = [use.node.name for use in found.view.uses.get(name, ())]
        more = any(line.startswith(f"node -{name}_QuantizeLinear_") for line in found.graph)
        if more and len(set(nodes)) < len(nodes):
            return f"a node that reads tensor {name!r} twice gets one pair for it; the peer writes two that are alike"
    return None


def _bounds(found: Difference) -> str | None:
    reading = {line.removeprefix("reads ") for line in found.graph if line.startswith("reads ")}
    read = [name for node in found.view.nodes if node.name in reading for name in node.input]
    kept = [name for name in read if name in found.plan.tensors and name in found.view.constants]
    if not kept:
        return None
    return (
        f"constant {kept[0]!r} is rounded for the nodes that gain from it; the peer hands all its readers what is left "
        "after rounding, such as a Clip its bounds"
    )


def _widened(found: Difference) -> str | None:
    names = [name for name in sorted(found.tensors) if name in found.plan.tensors]
    widened = [name for name in names if "; widened so that bias " in found.plan.tensors[name].source]
    if not widened:
        return None
    return (
        f"the scale of weight {widened[0]!r} is widened so that its bias fits into 32 bits, whatever the type of the "
        "weight; the peer does it for some types only, and elsewhere the bias overflows"
    )


def _names(found: Difference) -> str | None:
    if "node -" not in found.graph:
        return None
    return "nodes without a name get one, by which the plan speaks of them; the peer leaves them"


KNOWN: tuple[Known, ...] = (
    _names,
    _constants,
    _overrides,
    _clipping,
    _order,
    _outputs,
    _channels,
    _twice,
    _bounds,
    _widened,
)
