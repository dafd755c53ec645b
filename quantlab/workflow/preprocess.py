"""Preparing a model as a step of its own, under the argument names that users of onnxruntime.quantization know."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import onnx

from quantlab.backend import Backend, OrtBackend, signature
from quantlab.backend.ort import optimized
from quantlab.backend.symbolic import Symbolic
from quantlab.data import batches
from quantlab.errors import OptionError, nearest
from quantlab.graph.check import check_float_model
from quantlab.graph.files import MAX_PROTOBUF_BYTES, DataFiles, check_writable, load, save
from quantlab.graph.passes import Pass, Sequential, Workpiece
from quantlab.graph.prepare import SORT_NODES, prepare
from quantlab.graph.view import subgraphs
from quantlab.workflow.ladder import shape_ladder

MARK = "onnx.quant.pre_process"
"""Key of the metadata that says that a model was pre-processed."""

MARKED_BY = "onnxruntime.quant"
"""The value that onnxruntime.quantization looks for, so that it knows the models that are marked here."""

OPTIMIZERS = ("quantlab", "onnxruntime")

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, kw_only=True)
class PreProcessed:
    """What pre-processing gives.

    Attributes:
        model: The prepared model, marked.
        notes: What each pass changed, which rung of the shape ladder served which tensors, and what was left alone.
        nodes: Number of nodes before and after.
        seconds: How long it took, without reading and writing files.
    """

    model: onnx.ModelProto
    notes: tuple[str, ...]
    nodes: tuple[int, int]
    seconds: float


def quant_pre_process(
    input_model: str | os.PathLike[str] | bytes | onnx.ModelProto | None = None,
    output_model_path: str | os.PathLike[str] | None = None,
    skip_optimization: bool = False,
    skip_onnx_shape: bool = False,
    skip_symbolic_shape: bool = False,
    auto_merge: bool = False,
    int_max: int = 2**31 - 1,
    guess_output_rank: bool = False,
    verbose: int = 0,
    save_as_external_data: bool = False,
    all_tensors_to_one_file: bool = False,
    external_data_location: str | None = None,
    external_data_size_threshold: int = 1024,
    *,
    optimize: str = "quantlab",
    data: Any = None,
    backend: Backend | None = None,
    **deprecated_kwargs: Any,
) -> PreProcessed:
    """Prepare a float model for quantization: optimize the graph, and find types and shapes of its tensors.

    Args:
        input_model: Path, bytes or ModelProto of a float model; it is not changed.
        output_model_path: Where to write the model, or None to only return it.
        skip_optimization: Leave the nodes as they are, but for their order; only types and shapes are added.
        skip_onnx_shape: Leave out onnx's shape inference.
        skip_symbolic_shape: Leave out onnxruntime's symbolic shape inference.
        auto_merge: Where symbolic sizes clash, take them as equal, and keep the sizes that follow.
        int_max: Ends of slices from here on mean "to the end".
        guess_output_rank: Take the output of an operator that nobody knows for a tensor like its first input.
        verbose: How much onnxruntime's symbolic inference logs: 0 nothing, 1 warnings, 3 details.
        save_as_external_data: Write weights into files beside the model, whatever the size of the model.
        all_tensors_to_one_file: Into one file, instead of one for each tensor.
        external_data_location: Name of that one file; implies `all_tensors_to_one_file`.
        external_data_size_threshold: Bytes from which on a tensor goes into such a file.
        optimize: Whose optimizations: `"quantlab"`, or `"onnxruntime"` for its basic offline optimization first and
            quantlab's own after it.
        data: Samples to run where inference leaves tensors open, in any form that `quantlab.batches` takes.
        backend: Runs them; onnxruntime by default.
        deprecated_kwargs: `input_model_path`, the former name of `input_model`.

    Returns:
        The prepared model, with a note for each thing that was done.

    Raises:
        ModelError: The model cannot be read, prepared or written, or does not run on `data`.
        DataError: The data does not fit the model.
        OptionError: An option is unknown, or options contradict each other.

    Example:
        >>> from quantlab.demo import float_model
        >>> before, after = quant_pre_process(float_model()).nodes
        >>> before, after < before
        (18, True)
    """
    started = perf_counter()
    source = _source(input_model, deprecated_kwargs)
    if skip_optimization and skip_onnx_shape and skip_symbolic_shape and data is None:
        raise OptionError(
            "skip_optimization, skip_onnx_shape and skip_symbolic_shape together leave nothing to do: drop one of them"
        )
    _check_optimizer(optimize, skip_optimization)
    files = DataFiles(
        at_least=external_data_size_threshold,
        location=external_data_location,
        each=not all_tensors_to_one_file and external_data_location is None,
    )
    _check_output(source, output_model_path)
    model = load(source)
    symbolic = Symbolic(
        auto_merge=auto_merge, int_max=int_max, guess_output_rank=guess_output_rank, verbose=verbose, sizes=True
    )
    ladder = shape_ladder(
        by_onnx=not skip_onnx_shape,
        symbolic=None if skip_symbolic_shape else symbolic,
        batches=None if data is None else batches(data, signature(model)),
        backend=backend or OrtBackend(),
    )
    steps = [ORT_OPTIMIZE] if optimize == "onnxruntime" else []
    result = _pre_processed(model, steps, ladder, skip_optimization=skip_optimization, started=started)
    if output_model_path is not None:
        above = 0 if save_as_external_data else MAX_PROTOBUF_BYTES
        save(result.model, output_model_path, external_above=above, data_files=files)
    return result


def is_pre_processed(model: onnx.ModelProto) -> bool:
    """Return whether a model was pre-processed, here or by onnxruntime.quantization.

    Example:
        >>> from quantlab.demo import float_model
        >>> from quantlab.graph.files import load
        >>> is_pre_processed(load(float_model())), is_pre_processed(quant_pre_process(float_model()).model)
        (False, True)
    """
    return any(entry.key == MARK and entry.value == MARKED_BY for entry in model.metadata_props)


def _pre_processed(
    model: onnx.ModelProto, steps: Iterable[Pass], ladder: Pass, *, skip_optimization: bool, started: float
) -> PreProcessed:
    check_float_model(model)
    if skip_optimization:
        results = [Sequential(SORT_NODES, ladder)(model)]
    else:
        results = [Sequential(*steps)(model)]
        results.append(prepare(results[0].model, shapes=ladder))
    prepared = results[-1].model
    if not any(entry.key == MARK for entry in prepared.metadata_props):
        prepared.metadata_props.add(key=MARK, value=MARKED_BY)
    return PreProcessed(
        model=prepared,
        notes=tuple(note for result in results for note in result.notes),
        nodes=(len(model.graph.node), len(prepared.graph.node)),
        seconds=perf_counter() - started,
    )


def _source(given: Any, former: dict[str, Any]) -> Any:
    unknown = [name for name in former if name != "input_model_path"]
    if unknown:
        allowed = [*quant_pre_process.__annotations__]
        raise OptionError(f"quant_pre_process has no option {unknown[0]!r}{nearest(unknown[0], allowed)}")
    found = [one for one in (given, former.get("input_model_path")) if one is not None]
    if len(found) != 1:
        raise (
            OptionError("input_model is missing: give a path, bytes or a ModelProto")
            if not found
            else OptionError("input_model and input_model_path are two names of the same argument: give input_model")
        )
    return found[0]


def _check_optimizer(optimize: str, skip_optimization: bool) -> None:
    if optimize not in OPTIMIZERS:
        raise OptionError(
            f"unknown optimizer {optimize!r}{nearest(optimize, OPTIMIZERS)} (allowed: {', '.join(OPTIMIZERS)})"
        )
    if skip_optimization and optimize == "onnxruntime":
        raise OptionError("skip_optimization and optimize='onnxruntime' contradict each other: drop one of them")


def _check_output(source: Any, output: str | os.PathLike[str] | None) -> None:
    if output is None:
        return
    if isinstance(source, str | os.PathLike) and os.path.realpath(source) == os.path.realpath(output):
        raise OptionError(f"output_model_path {str(output)!r} is the input model itself: give another name")
    check_writable(output)


def _ort_optimize(piece: Workpiece) -> list[str]:
    model = piece.model
    before, foreign = len(model.graph.node), _foreign(model.graph)
    model.CopyFrom(optimized(model))
    used = {node.domain for node in _nodes(model.graph)} | {node.domain for f in model.functions for node in f.node}
    used |= set(_STANDARD)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    new = _foreign(model.graph) - foreign
    notes = [f"{before} nodes became {len(model.graph.node)}"]
    if new:
        shown = ", ".join(f"{count} {domain}.{name}" for (domain, name), count in sorted(new.items()))
        notes.append(f"operators that only onnxruntime reads: {shown}")
    return notes


def _foreign(graph: onnx.GraphProto) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in _nodes(graph) if node.domain not in _STANDARD)


def _nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _nodes(inner)


ORT_OPTIMIZE = Pass(name="onnxruntime-optimize", edit=_ort_optimize)
"""onnxruntime's basic offline optimization; it may write operators that other runtimes do not read."""
