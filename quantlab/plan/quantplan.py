"""A QuantPlan says for every tensor which grid it gets and why, and for every node why it was quantized or not.

It is plain data: printable, comparable, and JSON that a person can edit before it is applied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Literal, cast

import numpy as np

from quantlab.arrays import QParams, QuantSpec, Range
from quantlab.errors import OptionError
from quantlab.plan.wishes import Role

FORMAT = 1
Status = Literal["quantized", "absorbed", "float"]


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """What one tensor gets.

    Invariants:
        * At most one of `like`, `product` is set.
        * `like` names a tensor that is in the plan and has no `like` itself.
        * `qparams`, once there, has the grid `spec`.

    Attributes:
        role: What the tensor is to the nodes that asked.
        spec: Its grid.
        dtype: Floating-point type of the tensor, and so of its scale.
        reason: Which nodes asked for a grid.
        like: Tensor whose numbers are shared.
        product: For a bias: activation and weight whose scales multiply.
        factor: Constant factor of that product.
        absorbs: Tensor that feeds this one through a Relu or Clip that may go.
        within: Bounds of that Relu or Clip.
        fixed: Range known without data.
        range_of: Tensor whose range is used instead of this one's own.
        readers: Names of the nodes that read the rounded tensor, or None for all.
        values: The range, once it is known.
        source: Where the range came from, in words.
        qparams: Scale and zero point, once they are known.
    """

    role: Role
    spec: QuantSpec
    dtype: str = "float32"
    reason: str = ""
    like: str | None = None
    product: tuple[str, str] | None = None
    factor: float = 1.0
    absorbs: str | None = None
    within: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    range_of: str | None = None
    readers: tuple[str, ...] | None = None
    values: Range | None = None
    source: str = ""
    qparams: QParams | None = None


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """What happens to one node: its operator type, whether it is quantized, and why or why not."""

    op: str
    status: Status
    reason: str


@dataclass(frozen=True, kw_only=True)
class QuantPlan:
    """The whole plan.

    Attributes:
        tensors: Tensor name to plan, in topological order.
        nodes: Node name to decision, in topological order.
        min_real_range: Least width of any range, or None.
        notes: What else a reader should know, such as patterns that matched nothing.
    """

    tensors: Mapping[str, TensorPlan]
    nodes: Mapping[str, NodePlan]
    min_real_range: float | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def resolved(self) -> bool:
        """Whether every tensor has its numbers."""
        return all(tensor.qparams is not None for tensor in self.tensors.values())

    def observed(self) -> list[str]:
        """Return the tensors whose range has to be measured on data, each once, in order."""
        wanted = [
            tensor.range_of or name
            for name, tensor in self.tensors.items()
            if tensor.role == "activation" and not (tensor.like or tensor.fixed or tensor.values or tensor.qparams)
        ]
        return list(dict.fromkeys(wanted))

    def with_tensors(self, changed: Mapping[str, TensorPlan]) -> QuantPlan:
        """Return the plan with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **changed})

    def to_json(self) -> str:
        """Write the plan as JSON text, one line a tensor or node."""
        tensors = [f"    {json.dumps(name)}: {json.dumps(_tensor_to_json(t))}" for name, t in self.tensors.items()]
        nodes = [f"    {json.dumps(name)}: {json.dumps(vars(node))}" for name, node in self.nodes.items()]
        head = {"quantlab_plan": FORMAT, "min_real_range": self.min_real_range, "notes": list(self.notes)}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        for key, rows in (("tensors", tensors), ("nodes", nodes)):
            lines.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n  }")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> QuantPlan:
        """Read what `to_json` wrote, edited or not.

        Raises:
            OptionError: The text is no plan; the message says which entry is wrong.
        """
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise OptionError(f"the plan is not JSON: {error}") from error
        if not isinstance(plain, dict) or plain.get("quantlab_plan") != FORMAT:
            raise OptionError(f'the plan must be a JSON object with "quantlab_plan": {FORMAT}')
        for key in ("tensors", "nodes"):
            if not isinstance(plain.get(key), dict):
                raise OptionError(f"the plan must have an object {key!r}: a name for each entry")
        return cls(
            tensors={name: _read("tensor", name, value, _tensor_from_json) for name, value in plain["tensors"].items()},
            nodes={
                name: _read("node", name, value, lambda node: NodePlan(**node))
                for name, value in plain["nodes"].items()
            },
            min_real_range=plain.get("min_real_range"),
            notes=tuple(plain.get("notes", ())),
        )


def _read(kind: str, name: str, value: Any, reader: Any) -> Any:
    try:
        return reader(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"{kind} {name!r} in the plan cannot be read: {error}") from error


_PLAIN = ("role", "dtype", "reason", "like", "factor", "absorbs", "range_of", "source")
_PAIRS = ("product", "within", "fixed", "readers")


def _tensor_to_json(tensor: TensorPlan) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": tensor.role, "spec": tensor.spec.to_json()}
    default = TensorPlan(role=tensor.role, spec=tensor.spec)
    for name in (*_PLAIN, *_PAIRS):
        if (value := getattr(tensor, name)) != getattr(default, name):
            plain[name] = value
    if tensor.within is not None:
        # JSON knows no infinity; an open end is null.
        plain["within"] = [end if isfinite(end) else None for end in tensor.within]
    if tensor.values is not None:
        plain["range"] = [tensor.values.lo.tolist(), tensor.values.hi.tolist()]
    if tensor.qparams is not None:
        plain["scale"] = tensor.qparams.scale.tolist()
        plain["zero_point"] = tensor.qparams.zero_point.tolist()
    return plain


def _tensor_from_json(plain: Mapping[str, Any]) -> TensorPlan:
    known = {"spec", "range", "scale", "zero_point", *_PLAIN, *_PAIRS}
    if unknown := sorted(set(plain) - known):
        raise ValueError(f"unknown field {unknown[0]!r} (allowed: {', '.join(sorted(known))})")
    if plain["role"] not in ("activation", "weight", "bias"):
        raise ValueError(f"role {plain['role']!r} must be activation, weight or bias")
    spec = QuantSpec.from_json(plain["spec"])
    values = {name: plain[name] for name in _PLAIN if name in plain}
    pairs = {name: tuple(plain[name]) for name in _PAIRS if name in plain}
    if "within" in pairs:
        lowest, highest = pairs["within"]
        pairs["within"] = (-inf if lowest is None else lowest, inf if highest is None else highest)
    kind = np.dtype(plain.get("dtype", "float32"))
    ends = [np.asarray(end, kind) for end in plain.get("range", ())]
    qparams = None
    if ("scale" in plain) != ("zero_point" in plain):
        raise ValueError("scale and zero_point come together: give both or neither")
    if "scale" in plain:
        scale = np.asarray(plain["scale"], kind)
        qparams = QParams(scale=scale, zero_point=np.asarray(plain["zero_point"], np.int64), spec=spec)
    return TensorPlan(spec=spec, values=Range(*ends) if ends else None, qparams=qparams, **cast(Any, values | pairs))
