"""The third rung of the shape ladder: run the model on samples, and write down which types and ranks come out.

A type and a rank are taken from the runs as they are, if all runs agree. The size of an axis is taken only where the
runs speak for more than themselves: it came out the same in at least two runs, every free size of the inputs differed
between them, and no operator before it makes sizes from values, as NonZero does. Other sizes stay open: those of one
sample, written down, would be wrong for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import onnx
from onnx import helper

from quantlab.backend.base import Backend, Batch, Runner
from quantlab.errors import DataError, ModelError
from quantlab.graph import GraphView
from quantlab.graph.files import tensors_of
from quantlab.graph.prepare.shapes import Rung, fill, onnx_rung, open_tensors, served

SAMPLES = 8
"""How many batches are run at most."""

_SIZED_BY = {
    "NonZero": 0,
    "NonMaxSuppression": 0,
    "Unique": 0,
    "Range": 0,
    "ConstantOfShape": 0,
    "If": 0,
    "Loop": 0,
} | (
    dict.fromkeys(("Compress", "Reshape", "Expand", "Tile", "Pad", "Slice", "Resize", "Upsample", "OneHot"), 1)
    | dict.fromkeys(("TopK", "Split", "SplitToSequence", "SequenceAt", "Squeeze", "Unsqueeze", "CenterCropPad"), 1)
)
"""Operators whose sizes follow from values, and the first input whose values do it."""

Seen = dict[str, set[tuple[int, tuple[int, ...]]]]
"""Tensor to every pair of element type and shape that came out."""


def observed_rung(backend: Backend, batches: Iterable[Batch], *, samples: int = SAMPLES) -> Rung:
    """Make the rung.

    Args:
        backend: Runs the model.
        batches: Input name to array, one mapping a sample; the first few are run.
        samples: How many are run at most.

    Returns:
        An edit for `quantlab.graph.prepare.shapes.shape_pass`. It raises ModelError where the model itself does not
        run, and DataError where there is no data.
    """

    def edit(model: onnx.ModelProto) -> list[str]:
        wanted = list(open_tensors(model.graph))
        if not wanted:
            return []
        fed = list(islice(batches, samples))
        if not fed:
            raise DataError("no data: types and shapes are to be taken from runs, and there is no sample to run")
        try:
            seen = _run(backend.open(model, wanted), fed, wanted)
        except ModelError as error:
            backend.open(model)(fed[0])  # a model that does not run is refused with the runtime's own words
            return [f"running the model showed nothing, it does not run with inner tensors as outputs: {error}"]
        filled = fill(model, dict(_types(model, seen, fed)))
        notes = served(f"running the model on {len(fed)} samples", filled)
        return notes + (onnx_rung(model) if filled else [])

    return edit


def _run(run: Runner, fed: Sequence[Batch], wanted: Sequence[str]) -> Seen:
    seen: Seen = {name: set() for name in wanted}
    for batch in fed:
        for name, value in run(batch).items():
            if isinstance(value, np.ndarray):  # sequences and maps come as lists and dicts
                seen[name].add((helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    return seen


def _types(model: onnx.ModelProto, seen: Seen, fed: Sequence[Batch]) -> Iterator[tuple[str, onnx.TypeProto]]:
    telling = len(fed) > 1 and _free_sizes_differ(model, fed)
    by_values = _sized_by_values(GraphView.of(model))
    # bfloat16 comes out of a backend as float32: where there is any, float32 may be either.
    short = _has(model, onnx.TensorProto.BFLOAT16)
    for name, pairs in seen.items():
        kinds, ranks = {kind for kind, _ in pairs}, {len(shape) for _, shape in pairs}
        if len(kinds) != 1 or len(ranks) != 1 or (short and onnx.TensorProto.FLOAT in kinds):
            continue
        sizes = [set(axis) for axis in zip(*(shape for _, shape in pairs), strict=True)]
        keep = telling and name not in by_values
        axes = [axis.pop() if keep and len(axis) == 1 else None for axis in sizes]
        yield name, helper.make_tensor_type_proto(kinds.pop(), axes)


def _free_sizes_differ(model: onnx.ModelProto, fed: Sequence[Batch]) -> bool:
    """Say whether every size that the inputs leave free took more than one value."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        for axis, size in enumerate(tensor.shape.dim):
            if not size.HasField("dim_value") and len({np.shape(batch[value.name])[axis] for batch in fed}) < 2:
                return False
        if not tensor.HasField("shape"):
            return False
    return True


def _sized_by_values(view: GraphView) -> set[str]:
    """Return every tensor at or behind an operator whose sizes follow from values that are not constant."""
    found: set[str] = set()
    for node in view.nodes:
        first = _SIZED_BY.get(node.op_type)
        here = first is not None and any(name and name not in view.constants for name in node.input[first:])
        if here or any(name in found for name in node.input):
            found.update(node.output)
    return found


def _has(model: onnx.ModelProto, code: int) -> bool:
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    if any(value.type.tensor_type.elem_type == code for value in values):
        return True
    casts = (
        attribute for node in model.graph.node for attribute in node.attribute if attribute.name in ("to", "dtype")
    )
    return any(attribute.i == code for attribute in casts) or any(t.data_type == code for t in tensors_of(model))
