"""The contract for changing a model: a pass states what it requires and ensures, and says what it did.

A pass is a value: calling it copies the model, edits the copy and returns it with notes. `Sequential` copies once for a
whole row of passes, and indexes the copy once for all those that find nothing to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from quantlab.errors import PassError
from quantlab.graph.names import Names
from quantlab.graph.view import GraphView


@dataclass(frozen=True, eq=False)
class Workpiece:
    """The copy that passes edit, with what they want to know of it as it was before the edit.

    A pass that has changed the model says so in a note, and the next pass gets a workpiece of its own; where there is
    no note the next one shares what has been built already.

    Attributes:
        model: The copy, to be changed in place.
    """

    model: onnx.ModelProto

    @cached_property
    def view(self) -> GraphView:
        """An index of the main graph, built when it is first asked for: ask before the first change."""
        return GraphView.of(self.model)

    @cached_property
    def operators(self) -> frozenset[str]:
        """Operator types of the default domain in the main graph; where the one is missing, a pass needs no view."""
        return frozenset(node.op_type for node in self.model.graph.node if node.domain in ("", "ai.onnx"))

    @cached_property
    def names(self) -> Names:
        """The names that are taken; those of nodes that are being removed may be among them."""
        return Names.of(self.model)


Edit = Callable[[Workpiece], list[str]]
Condition = Callable[[onnx.ModelProto], str | None]


def _always(_: onnx.ModelProto) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What a pass made.

    Attributes:
        model: The changed copy.
        changed: Whether anything differs from the input.
        notes: One line for each change, and for each thing left alone that a reader might expect to be changed.
    """

    model: onnx.ModelProto
    changed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One named change of a model.

    Attributes:
        name: Short kebab-case name, such as `"fold-batch-norm"`.
        edit: Changes the model of a workpiece in place and returns a note for each change; an empty list promises that
            nothing changed.
        requires: Returns what is missing for the pass to work, or None.
        ensures: Returns what still does not hold afterwards, or None.
    """

    name: str
    edit: Edit
    requires: Condition = field(default=_always)
    ensures: Condition = field(default=_always)

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return a changed copy of the model.

        Args:
            model: Any model; it is not changed.

        Returns:
            The copy and what was done to it.

        Raises:
            PassError: The model lacks what the pass requires, or the pass broke its own promise.
        """
        return Sequential(self)(model)


class Sequential:
    """Several passes, one after the other, on one copy.

    Args:
        passes: In the order in which they run.
    """

    def __init__(self, *passes: Pass) -> None:
        self.passes = passes

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Run every pass on one copy of the model; notes start with the name of their pass.

        Args:
            model: Any model; it is not changed.

        Returns:
            The copy and the notes of every pass.

        Raises:
            PassError: Some pass found its requirement missing or its promise broken.
        """
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        piece = Workpiece(copy)
        notes: list[str] = []
        for step in self.passes:
            if (missing := step.requires(copy)) is not None:
                raise PassError(f"pass {step.name!r} cannot run: {missing}")
            made = step.edit(piece)
            if made:
                piece = Workpiece(copy)
            notes += [f"{step.name}: {note}" for note in made]
            if (broken := step.ensures(copy)) is not None:
                raise PassError(f"pass {step.name!r} left the model in a wrong state: {broken}")
        return PassResult(model=copy, changed=bool(notes), notes=tuple(notes))
