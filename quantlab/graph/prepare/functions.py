"""Local functions are replaced by their bodies, so that what stands in them is planned and written like all else.

The call f(x) of a function f(a) = g(h(a)) becomes the nodes g(h(x)), under names of their own, calls within functions
included. Exporters write whole layers as functions; left as they are, everything inside would stay in float.
"""

from __future__ import annotations

import onnx
from onnx import inliner

from quantlab.errors import ModelError
from quantlab.graph.passes import Pass, Workpiece
from quantlab.graph.prepare.edit import replace_nodes
from quantlab.graph.prepare.light import TOOL_ERRORS, light_copy


def _edit(piece: Workpiece) -> list[str]:
    model = piece.model
    if not model.functions:
        return []
    try:
        # Functions may be written in another opset than the model.
        inlined = inliner.inline_local_functions(light_copy(model), convert_version=True)
    except (*TOOL_ERRORS, onnx.checker.ValidationError) as error:
        raise ModelError(f"the local functions of the model cannot be inlined: {error}") from error
    names = ", ".join(repr(function.name) for function in model.functions[:3])
    rest = f" and {len(model.functions) - 3} more" if len(model.functions) > 3 else ""
    note = f"{len(model.functions)} local functions were replaced by their bodies: {names}{rest}"
    known = {tensor.name for tensor in model.graph.initializer}
    replace_nodes(model.graph, inlined.graph.node)
    model.graph.initializer.extend(tensor for tensor in inlined.graph.initializer if tensor.name not in known)
    domains = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(entry for entry in inlined.opset_import if entry.domain not in domains)
    del model.functions[:]
    return [note]


INLINE_FUNCTIONS = Pass(name="inline-functions", edit=_edit)
