"""An initializer that is a graph input too is only a default, which a caller may override: it becomes a constant."""

from __future__ import annotations

import onnx

from quantlab.graph.passes import Pass, Workpiece


def overridable(model: onnx.ModelProto) -> list[str]:
    """Return the names of initializers that are graph inputs as well, in the order of the inputs."""
    inputs = {value.name for value in model.graph.input}
    found = {name for tensor in model.graph.initializer if (name := tensor.name) in inputs}
    found |= {name for sparse in model.graph.sparse_initializer if (name := sparse.values.name) in inputs}
    return [value.name for value in model.graph.input if value.name in found] if found else []


def missing_constants(model: onnx.ModelProto) -> str | None:
    """Return why initializers cannot be taken for constants, or None where they can."""
    names = overridable(model)
    return f"initializer {names[0]!r} is a graph input too; run 'drop-initializer-inputs' first" if names else None


def _edit(piece: Workpiece) -> list[str]:
    names = overridable(piece.model)
    if not names:
        return []
    known = set(names)
    kept = [value for value in piece.model.graph.input if value.name not in known]
    del piece.model.graph.input[:]
    piece.model.graph.input.extend(kept)
    shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
    return [f"{len(names)} initializers are no longer inputs that a caller could override: {shown}"]


DROP_INITIALIZER_INPUTS = Pass(name="drop-initializer-inputs", edit=_edit, ensures=missing_constants)
