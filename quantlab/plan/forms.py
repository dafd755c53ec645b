"""An integer form is an operator that computes on integers, such as QLinearConv for Conv, and what it needs.

Models of format QOperator are made of them. An operator without one, or one that lacks something its form needs, stays
in float, with DequantizeLinear in front of it. Both are decided here, on the plan; writing decides nothing.

Wishes are those of the QDQ format save where `integer_rules` has an entry. Needs are checked on the refined plan, where
it is known which tensors have a grid.

Which operators have a form, and which grids they get, is as in onnxruntime.quantization 1.31.1, `QLinearOpsRegistry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import onnx

from quantlab.graph import GraphView
from quantlab.plan.entries import NodePlan, TensorPlan
from quantlab.plan.quantplan import QuantPlan
from quantlab.plan.recipe import EIGHT_BITS, Format, Settings, weight_spec
from quantlab.plan.wishes import OpRule, Refuse, Wish, op_rules
from quantlab.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Grids:
    """The grids of a plan as its nodes meet them.

    Attributes:
        plan: The plan.
        view: The graph.
        takers: Tensor that has lost its grid to the output of an absorbed Relu or Clip, to that output.
    """

    plan: QuantPlan
    view: GraphView
    takers: Mapping[str, str]
    _readers: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: QuantPlan, view: GraphView, gone: Iterable[str] | None = None) -> Grids:
        """Index a plan.

        Args:
            plan: The plan, with or without numbers.
            view: The graph that it is for.
            gone: Names of absorbed nodes; those that the plan calls so by default.

        Returns:
            The index.
        """
        absorbed = (name for name, node in plan.nodes.items() if node.status == "absorbed")
        away = frozenset(absorbed if gone is None else gone)
        takers = {
            tensor.absorbs: name
            for name, tensor in plan.tensors.items()
            if tensor.absorbs is not None and view.producers[name].name in away
        }
        return cls(plan=plan, view=view, takers=takers)

    def read(self, node: onnx.NodeProto, name: str) -> TensorPlan | None:
        """Return the entry of a tensor that a node reads rounded, or None where it reads the float tensor."""
        tensor = self.plan.tensors.get(name)
        if tensor is None or tensor.readers is None:
            return tensor
        if name not in self._readers:  # thousands of nodes may read one tensor
            self._readers[name] = frozenset(tensor.readers)
        return tensor if node.name in self._readers[name] else None

    def made(self, name: str) -> tuple[str, TensorPlan | None]:
        """Return the tensor that stands for a node's output, absorption counted, and its entry if all read that."""
        name = self.takers.get(name, name)
        tensor = self.plan.tensors.get(name)
        return name, None if tensor is None or tensor.readers is not None else tensor


Need = Callable[[onnx.NodeProto, Grids], "str | None"]

integer_needs: Registry[Need] = Registry("integer operator", "quantlab.plan.integer")
"""Operator type to the check that names what its integer form lacks; operators without an entry have no such form."""

integer_rules: Registry[OpRule] = Registry("integer operator", "quantlab.plan.integer")
"""Operator type to rule, where the wishes differ from those of the QDQ format."""


def form_of(node: onnx.NodeProto) -> str:
    """Return the name under which the tables of integer forms know an operator.

    Args:
        node: A node of any domain.

    Returns:
        The operator type, with the domain in front where that is not ONNX's own.
    """
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def known_operators(kind: Format) -> set[str]:
    """Return the operator types that have a rule in a format.

    Args:
        kind: The format.

    Returns:
        Their names, without domains.
    """
    names = (*op_rules, *integer_needs) if kind == "QOperator" else op_rules
    return {name.rpartition(".")[2] for name in names}


def rule_for(node: onnx.NodeProto, kind: Format) -> OpRule | Refuse | None:
    """Return the rule of an operator in a format, the reason why there is none, or None for an unknown one.

    Args:
        node: The node.
        kind: The format.

    Returns:
        The rule, a refusal, or None.
    """
    name = form_of(node)
    if kind == "QDQ":
        return op_rules.get(name)
    if name not in integer_needs:
        return Refuse(_no_form(name)) if name in op_rules else None
    rule = integer_rules.get(name) or op_rules.get(name)
    return None if rule is None else _with_constants(rule)


def _no_form(name: str) -> str:
    return f"models of format QOperator have no {name} on integers"


def _with_constants(rule: OpRule) -> OpRule:
    """Return a rule whose constants of the weights' type get the weights' grid, even those read as activations.

    Source: onnxruntime.quantization 1.31.1, `BaseQuantizer.quantize_initializer_impl`, which tells them by type alone.
    """

    def answer(node: onnx.NodeProto, view: GraphView, settings: Settings) -> Iterable[Wish] | Refuse:
        wishes = rule(node, view, settings)
        if isinstance(wishes, Refuse) or settings.activation.dtype != settings.weight.dtype:
            return wishes
        spec = weight_spec(settings.weight.dtype, symmetric=settings.weight.symmetric)
        return [
            replace(wish, spec=spec)
            if wish.role == "activation" and wish.spec is not None and _is_left_to_us(wish.tensor, view, settings)
            else wish
            for wish in wishes
        ]

    return answer


def _is_left_to_us(tensor: str, view: GraphView, settings: Settings) -> bool:
    return tensor in view.constants and tensor not in settings.overrides


def obstacles(plan: QuantPlan, view: GraphView) -> dict[str, str]:
    """Find the nodes that a plan calls quantized and that have no integer form after all.

    Args:
        plan: A refined plan, with or without numbers.
        view: The graph that it is for.

    Returns:
        Node name to reason, in topological order.
    """
    grids = Grids.of(plan, view)
    found = {}
    for node in view.nodes:
        decision = plan.nodes.get(node.name)
        if decision is None or decision.status != "quantized":
            continue
        if (why := obstacle(node, grids)) is not None:
            found[node.name] = why
    return found


def obstacle(node: onnx.NodeProto, grids: Grids) -> str | None:
    """Say why a node cannot be computed on integers, or None where it can."""
    need = integer_needs.get(form_of(node))
    if need is None:
        return _no_form(form_of(node))
    why = need(node, grids)
    return None if why is None else f"no {node.op_type} on integers: {why}"


def with_obstacles(plan: QuantPlan, view: GraphView) -> QuantPlan:
    """Call those nodes float that turn out to have no integer form once the numbers are known.

    Args:
        plan: A resolved plan of format QOperator.
        view: The graph that it is for.

    Returns:
        The plan. Tensors around such nodes keep their grids; the one in front of a Relu or Clip that was to be absorbed
        gets the grid behind it.
    """
    plan = _before_clipping(plan, view)
    found = obstacles(plan, view)
    changed = {name: NodePlan(op=plan.nodes[name].op, status="float", reason=why) for name, why in found.items()}
    return replace(plan, nodes={**plan.nodes, **changed}) if changed else plan


def _before_clipping(plan: QuantPlan, view: GraphView) -> QuantPlan:
    """Give the grid that was to absorb a Relu or Clip, and cannot, to the tensor that this reads."""
    moved = {
        name: tensor.absorbs
        for name, tensor in plan.tensors.items()
        if tensor.absorbs is not None and plan.nodes[view.producers[name].name].status != "absorbed"
    }
    if not moved:
        return plan
    tensors: dict[str, TensorPlan] = {}
    for name, tensor in plan.tensors.items():
        if name in moved:
            before = moved[name]
            readers = (node.name for node in view.readers(name) if plan.nodes[node.name].status == "quantized")
            tensors[before] = replace(tensor, absorbs=None, within=None)
            tensors[name] = replace(tensors[before], like=before, readers=tuple(readers))
        else:
            tensors[name] = replace(tensor, like=moved[tensor.like]) if tensor.like in moved else tensor
    return replace(plan, tensors=tensors)


def lacks_grid(name: str, tensor: TensorPlan | None, *, per_tensor: bool = True) -> str | None:
    """Say why a tensor is nothing that an integer operator takes or makes, or None where it is.

    Args:
        name: Name of the tensor.
        tensor: Its entry as its node meets it.
        per_tensor: Whether the operator takes one scale only.

    Returns:
        The reason, or None.
    """
    if tensor is None:
        return f"{name!r} has no grid"
    if tensor.spec.dtype.name not in EIGHT_BITS:
        return f"{name!r} is {tensor.spec.dtype}, not int8 or uint8"
    if tensor.dtype != "float32":
        return f"{name!r} is {tensor.dtype}, and scales must be float32"
    if per_tensor and tensor.spec.per_channel:
        return f"{name!r} has a scale a channel"
    return None
