"""A QuantPlan says for every tensor which grid it gets and why, and for every node why it was quantized or not.

It is plain data: printable, comparable, and JSON that a person can edit before it is applied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quantlab.errors import OptionError
from quantlab.plan.entries import NodePlan, Status, TensorPlan
from quantlab.plan.entry_json import (
    least_from_json,
    node_from_json,
    notes_from_json,
    read_entry,
    tensor_from_json,
    tensor_to_json,
)

FORMAT = 1

__all__ = ["FORMAT", "NodePlan", "QuantPlan", "Status", "TensorPlan"]


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
        tensors = [f"    {json.dumps(name)}: {json.dumps(tensor_to_json(t))}" for name, t in self.tensors.items()]
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
            tensors={
                name: read_entry("tensor", name, value, tensor_from_json) for name, value in plain["tensors"].items()
            },
            nodes={name: read_entry("node", name, value, node_from_json) for name, value in plain["nodes"].items()},
            min_real_range=read_entry("field", "min_real_range", plain.get("min_real_range"), least_from_json),
            notes=read_entry("field", "notes", plain.get("notes", []), notes_from_json),
        )
