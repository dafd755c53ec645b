"""The samples that a body of a control-flow node sees: what reaches a branch of If, each round of a Loop or a Scan.

The model is run up to the node, and the node is carried out here by its definition, with the body run as a model of
its own:

    If     the body runs once, if the condition says so
    Loop   the body runs until its condition is false or the number of rounds is reached; what it gives is carried over
    Scan   the body runs once for each slice of the scanned inputs; its states are carried over

Source: ONNX operator specification, "If", "Loop", "Scan".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantlab.backend import Array, Backend, Batch, Runner
from quantlab.graph.scopes import Scope
from quantlab.workflow.recurrence import NO_STATE, Recurrence, State


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What is needed to carry a control-flow node out.

    Attributes:
        node: The node.
        attribute: Which of its bodies is looked at.
        inputs: Names of the body's own inputs.
        outputs: Names of its outputs.
        body: Runs the body and gives its outputs in order; None for a branch of If, which runs at most once.
        outer: Tensors from outside, by the same name inside.
    """

    node: onnx.NodeProto
    attribute: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: Runner | None
    outer: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BodyBatches:
    """The samples of a body, as often as they are asked for: see `body_batches` for what the fields are."""

    backend: Backend
    model: onnx.ModelProto
    scope: Scope
    batches: Iterable[Batch]
    state: State

    def __iter__(self) -> Iterator[Batch]:
        return body_batches(self.backend, self.model, self.scope, self.batches, self.state)


def body_batches(
    backend: Backend, model: onnx.ModelProto, scope: Scope, batches: Iterable[Batch], state: State = NO_STATE
) -> Iterator[Batch]:
    """Yield every sample that a body sees while a model runs on samples of its own.

    Args:
        backend: Runs the model and the body.
        model: The model that the scope belongs to.
        scope: The body.
        batches: Samples of the model.
        state: Output of the model to the input that it becomes with the next sample.

    Yields:
        Samples of `scope.model`: its own inputs, and what it takes from outside.

    Raises:
        ModelError: The model or the body does not load, or fails on a sample.
        OptionError: The model has no such state.
    """
    node = next(node for node in model.graph.node if node.name == scope.node)
    own = [value.name for value in scope.model.graph.input]
    rounds = Rounds(
        node=node,
        attribute=scope.attribute,
        inputs=tuple(own[: len(own) - len(scope.outer)]),
        outputs=tuple(value.name for value in scope.model.graph.output),
        body=None if node.op_type == "If" else backend.open(scope.model),
        outer=scope.outer,
    )
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    wanted = dict.fromkeys([*(name for name in node.input if name), *scope.outer])
    recurrence = Recurrence.of(model, state, backend)
    asked = dict.fromkeys([*(name for name in wanted if name not in constants), *recurrence.outputs])
    runner = backend.open(model, list(asked))
    carry_out = {"If": _branch, "Loop": _loop, "Scan": _scan}[node.op_type]
    for batch in batches:
        values = runner(recurrence.fed(batch))
        recurrence.keep(values)
        yield from carry_out(rounds, {name: constants[name] for name in wanted if name in constants} | values)


def _branch(rounds: Rounds, values: dict[str, Array]) -> Iterator[Batch]:
    if bool(values[rounds.node.input[0]].item()) == (rounds.attribute == "then_branch"):
        yield {name: values[name] for name in rounds.outer}


def _loop(rounds: Rounds, values: dict[str, Array]) -> Iterator[Batch]:
    limit, condition, *initial = rounds.node.input
    most = int(values[limit].item()) if limit else np.iinfo(np.int64).max
    going = bool(values[condition].item()) if condition else True
    carried = [values[name] for name in initial]
    outside = {name: values[name] for name in rounds.outer}
    number = 0
    while going and number < most:
        given = [np.array(number, np.int64), np.array(going), *carried]
        batch = dict(zip(rounds.inputs, given, strict=True)) | outside
        yield batch
        found = _run(rounds, batch)
        going, carried = bool(found[0].item()), found[1 : 1 + len(carried)]
        number += 1


def _scan(rounds: Rounds, values: dict[str, Array]) -> Iterator[Batch]:
    options: dict[str, Any] = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in rounds.node.attribute
    }
    scanned = int(options["num_scan_inputs"])
    given = [values[name] for name in rounds.node.input]
    states, slices = given[: len(given) - scanned], given[len(given) - scanned :]
    axes = options.get("scan_input_axes") or [0] * scanned
    backwards = options.get("scan_input_directions") or [0] * scanned
    slices = [
        np.flip(np.moveaxis(x, axis, 0), 0) if back else np.moveaxis(x, axis, 0)
        for x, axis, back in zip(slices, axes, backwards, strict=True)
    ]
    outside = {name: values[name] for name in rounds.outer}
    for parts in zip(*slices, strict=True):
        batch = dict(zip(rounds.inputs, [*states, *parts], strict=True)) | outside
        yield batch
        states = _run(rounds, batch)[: len(states)]


def _run(rounds: Rounds, batch: Batch) -> list[Array]:
    assert rounds.body is not None  # of Loop and Scan
    found = rounds.body(batch)
    return [found[name] for name in rounds.outputs]
