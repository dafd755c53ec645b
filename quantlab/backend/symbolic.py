"""The second rung of the shape ladder: onnxruntime's symbolic shape inference, which calculates with sizes as symbols.

It is asked only about what onnx's own inference left open, and only what is open is taken from it. Its walk over a
graph is Python, and on large graphs slow: it stops after `seconds`, with what it has found by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

import onnx

from quantlab.backend.ort import symbolic_shape_inference
from quantlab.errors import QuantlabError
from quantlab.graph.prepare.edit import label
from quantlab.graph.prepare.light import light_copy
from quantlab.graph.prepare.shapes import (
    Rung,
    fill,
    first_line,
    is_shaped,
    onnx_rung,
    open_tensors,
    rank_only,
    served,
    type_only,
)
from quantlab.graph.view import captured, subgraphs


@dataclass(frozen=True, kw_only=True)
class Symbolic:
    """How to infer symbolically; the names are onnxruntime's.

    Attributes:
        auto_merge: Where the symbols of two sizes clash, take them for the same size and keep the sizes that follow.
            Off, such a walk is still tried after a plain one, but types and ranks alone are taken from it: they hold
            whether or not the sizes are the same. Which of the merged names stays is up to onnxruntime, and may differ
            from one process to the next.
        int_max: Ends of slices from here on mean "to the end".
        guess_output_rank: Take the output of an operator that nobody knows for a tensor like its first input.
        verbose: How much onnxruntime logs: 0 nothing, 1 warnings, 3 details.
        sizes: Look for names and numbers of single sizes too, where type and rank are known already.
        seconds: How long all walks together may take.
    """

    auto_merge: bool = False
    int_max: int = 2**31 - 1
    guess_output_rank: bool = False
    verbose: int = 0
    sizes: bool = False
    seconds: float = 60.0


class _OutOfTimeError(Exception):
    """The walk has used up its seconds."""


def symbolic_rung(options: Symbolic = Symbolic()) -> Rung:
    """Make the rung.

    Args:
        options: How to infer.

    Returns:
        An edit for `quantlab.graph.prepare.shapes.shape_pass`. Whatever onnxruntime raises becomes a note.
    """

    def edit(model: onnx.ModelProto) -> list[str]:
        if not open_tensors(model.graph, sizes=options.sizes):
            return []
        try:
            tool = symbolic_shape_inference()
        except QuantlabError as error:
            return [f"onnxruntime's symbolic inference was not asked: {error}"]
        return _climb(model, tool, options)

    return edit


def _climb(model: onnx.ModelProto, tool: Any, options: Symbolic) -> list[str]:
    """Walk plainly, and then with merged symbols if something is still open."""
    deadline = monotonic() + options.seconds
    notes: list[str] = []
    for merge in [True] if options.auto_merge else [False, True]:
        guessing = merge and not options.auto_merge
        wanted = open_tensors(model.graph, sizes=options.sizes and not guessing)
        if not wanted or monotonic() >= deadline:
            break
        found, stop = _walk(
            light_copy(model), tool(options.int_max, merge, options.guess_output_rank, options.verbose), deadline
        )
        branched = _behind_branches(model.graph)
        taken = {
            name: type_only(found[name]) if name in branched else rank_only(found[name]) if guessing else found[name]
            for name in wanted
            if name in found
        }
        filled = fill(model, taken)
        how = " with clashing sizes taken as equal" if merge else ""
        notes += served(f"onnxruntime's symbolic inference{how}", filled)
        if stop:
            notes.append(f"onnxruntime's symbolic inference{how} {stop}")
        if filled:
            notes += onnx_rung(model)
    return notes


def _behind_branches(graph: onnx.GraphProto) -> set[str]:
    """Return what follows from the output of a control-flow node whose shape is open.

    The walk takes the shape of the first branch for that of both, whichever a sample takes later.
    """
    shaped = {value.name for value in graph.value_info if is_shaped(value.type)}
    found: set[str] = set()
    for node in graph.node:  # in topological order
        inside = list(subgraphs(node))
        reads = [*node.input, *(name for inner in inside for name in captured(inner))]
        if inside or any(name in found for name in reads):
            found |= {name for name in node.output if name and name not in shaped}
    return found


def _walk(light: onnx.ModelProto, walk: Any, deadline: float) -> tuple[dict[str, onnx.TypeProto], str]:
    """Let onnxruntime walk over a model, and return what it found and the words why it stopped before the end.

    `SymbolicShapeInference.infer_shapes`, which does the same, throws all away when it stops before the end and
    leaves a file in the current folder; hence its steps one by one, as of the one release that is installed.
    """
    at: list[onnx.NodeProto] = []
    single = walk._onnx_infer_single_node

    def watched(node: onnx.NodeProto) -> None:
        if monotonic() >= deadline:
            raise _OutOfTimeError
        at[:] = [node]
        single(node)

    walk._onnx_infer_single_node = watched
    stop = ""
    try:
        walk._preprocess(light)
        while walk.run_:
            complete = walk._infer_impl()
        if not complete:
            stop = f"stopped at {_place(at)}"
    except _OutOfTimeError:
        stop = f"ran out of time at {_place(at)}"
    except Exception as error:  # asserts, TypeErrors and all else that an odd model brings about
        stop = f"failed at {_place(at)}: {first_line(error)}"
    # What the node it stopped at makes may be half done.
    doubtful = set(at[0].output) if stop and at else set()
    known = getattr(walk, "known_vi_", {})
    return {name: value.type for name, value in known.items() if name not in doubtful}, stop


def _place(at: list[onnx.NodeProto]) -> str:
    return label(at[0]) if at else "the beginning"
