"""The shape ladder: what a tensor is, asked of one source after the other until one knows.

| rung | asks | finds |
|---|---|---|
| 1 | onnx's inference | most of it, in milliseconds |
| 2 | onnxruntime's symbolic inference | sizes that are calculated, operators of onnxruntime's own |
| 3 | runs of the model on samples | the rest: it is what comes out |
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.backend import Backend, Batch, OrtBackend
from quantlab.backend.observed import observed_rung
from quantlab.backend.symbolic import Symbolic, symbolic_rung
from quantlab.graph.passes import Pass
from quantlab.graph.prepare.shapes import Rung, onnx_rung, shape_pass


def shape_ladder(
    *,
    by_onnx: bool = True,
    symbolic: Symbolic | None = Symbolic(),  # noqa: B008  # a frozen value
    batches: Iterable[Batch] | None = None,
    backend: Backend | None = None,
) -> Pass:
    """Put the rungs together.

    Args:
        by_onnx: Whether onnx's inference is asked.
        symbolic: How onnxruntime's symbolic inference is asked; None leaves it out.
        batches: Samples to run where tensors are still open after that; None leaves it out.
        backend: Runs them; onnxruntime by default.

    Returns:
        The pass, for `quantlab.graph.prepare.prepare`.
    """
    rungs: list[Rung] = [onnx_rung] if by_onnx else []
    rungs += [symbolic_rung(symbolic)] if symbolic is not None else []
    rungs += [observed_rung(backend or OrtBackend(), batches)] if batches is not None else []
    return shape_pass(*rungs)


def without_type(model: onnx.ModelProto) -> list[str]:
    """Return the tensors whose element type nobody knows, in the order of the nodes; they cannot be quantized."""
    graph = model.graph
    typed = {value.name for values in (graph.value_info, graph.output) for value in values if _typed(value)}
    return [name for node in graph.node for name in node.output if name and name not in typed]


def _typed(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") not in (None, "tensor_type") or bool(value.type.tensor_type.elem_type)
