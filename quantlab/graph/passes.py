"""The contract for changing a model: a pass states what it requires and ensures, and says what it did.

A pass is a value: calling it copies the model, edits the copy and returns it with notes. `Sequential` copies once for a
whole row of passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx

from quantlab.errors import PassError

Edit = Callable[[onnx.ModelProto], list[str]]
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
        edit: Changes a model in place and returns a note for each change; an empty list means that nothing changed.
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
        notes: list[str] = []
        for step in self.passes:
            if (missing := step.requires(copy)) is not None:
                raise PassError(f"pass {step.name!r} cannot run: {missing}")
            notes += [f"{step.name}: {note}" for note in step.edit(copy)]
            if (broken := step.ensures(copy)) is not None:
                raise PassError(f"pass {step.name!r} left the model in a wrong state: {broken}")
        return PassResult(model=copy, changed=bool(notes), notes=tuple(notes))
