"""A QuantPlan says for every tensor which grid it gets and why, and for every node why it was quantized or not.

It is plain data: printable, comparable, and JSON that a person can edit before it is applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from quantlab.errors import OptionError
from quantlab.plan.entries import NodePlan, Status, TensorPlan
from quantlab.plan.entry_json import (
    format_from_json,
    least_from_json,
    node_from_json,
    notes_from_json,
    read_entry,
    tensor_from_json,
    tensor_to_json,
)
from quantlab.plan.options import Layout, Numerics, options_from_json, options_to_json
from quantlab.plan.recipe import Format

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
        bodies: Plans of the bodies of If, Loop and Scan, by names such as `"If_3.then_branch"`.
        layout: How grids are written.
        numerics: How numbers are computed.
        format: How the model is written.
    """

    tensors: Mapping[str, TensorPlan]
    nodes: Mapping[str, NodePlan]
    min_real_range: float | None = None
    notes: tuple[str, ...] = field(default=())
    bodies: Mapping[str, QuantPlan] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    numerics: Numerics = field(default_factory=Numerics)
    format: Format = "QDQ"

    @property
    def resolved(self) -> bool:
        """Whether every tensor has its numbers, those in bodies included."""
        own = all(tensor.resolved for tensor in self.tensors.values())
        return own and all(body.resolved for body in self.bodies.values())

    def walk(self) -> Iterator[QuantPlan]:
        """Yield this plan and, however deep, those of the bodies within."""
        yield self
        for body in self.bodies.values():
            yield from body.walk()

    def every_observed(self) -> Iterator[str]:
        """Yield the tensors whose range has to be measured, those in bodies included."""
        for part in self.walk():
            yield from part.observed()

    def every_node(self) -> dict[str, NodePlan]:
        """Return the nodes of the main graph and of all bodies, the latter as `"If_3.then_branch/name"`."""
        found = dict(self.nodes)
        for key, body in self.bodies.items():
            found |= {f"{key}/{name}": node for name, node in body.every_node().items()}
        return found

    def observed(self) -> list[str]:
        """Return the tensors whose range has to be measured on data, each once, in order."""
        wanted = [tensor.range_of or name for name, tensor in self.tensors.items() if tensor.measured]
        return list(dict.fromkeys(wanted))

    def with_tensors(self, changed: Mapping[str, TensorPlan]) -> QuantPlan:
        """Return the plan with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **changed})

    def to_json(self, *, channels: bool = True) -> str:
        """Write the plan as JSON text, one line a tensor or node; without `channels`, no numbers of single channels."""
        tensors = [
            f"    {json.dumps(name)}: {json.dumps(tensor_to_json(t, numbers=channels or not t.spec.per_channel))}"
            for name, t in self.tensors.items()
        ]
        words = {node: json.dumps(vars(node)) for node in set(self.nodes.values())}  # most say one of a few things
        nodes = [f"    {json.dumps(name)}: {words[node]}" for name, node in self.nodes.items()]
        head: dict[str, Any] = {
            "quantlab_plan": FORMAT,
            "min_real_range": self.min_real_range,
            "notes": list(self.notes),
        }
        groups = {"layout": options_to_json(self.layout), "numerics": options_to_json(self.numerics)}
        head |= {key: group for key, group in groups.items() if group}
        head |= {} if self.format == "QDQ" else {"format": self.format}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        for key, rows in (("tensors", tensors), ("nodes", nodes)):
            lines.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n  }")
        if self.bodies:
            bodies = [
                f"    {json.dumps(key)}: {body.to_json(channels=channels).rstrip()}"
                for key, body in self.bodies.items()
            ]
            lines.append('  "bodies": {\n' + ",\n".join(bodies) + "\n  }")
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
        return cls._from_plain(plain)

    @classmethod
    def _from_plain(cls, plain: object) -> QuantPlan:
        if not isinstance(plain, dict) or plain.get("quantlab_plan") != FORMAT:
            raise OptionError(f'the plan must be a JSON object with "quantlab_plan": {FORMAT}')
        for key in ("tensors", "nodes"):
            if not isinstance(plain.get(key), dict):
                raise OptionError(f"the plan must have an object {key!r}: a name for each entry")
        bodies = plain.get("bodies", {})
        if not isinstance(bodies, dict):
            raise OptionError("the plan's 'bodies' must be an object: a plan for each body")
        return cls(
            tensors={
                name: read_entry("tensor", name, value, tensor_from_json) for name, value in plain["tensors"].items()
            },
            nodes={name: read_entry("node", name, value, node_from_json) for name, value in plain["nodes"].items()},
            min_real_range=read_entry("field", "min_real_range", plain.get("min_real_range"), least_from_json),
            notes=read_entry("field", "notes", plain.get("notes", []), notes_from_json),
            bodies={key: read_entry("body", key, body, cls._from_plain) for key, body in bodies.items()},
            layout=options_from_json(Layout, plain.get("layout", {})),
            numerics=options_from_json(Numerics, plain.get("numerics", {})),
            format=read_entry("field", "format", plain.get("format", "QDQ"), format_from_json),
        )
