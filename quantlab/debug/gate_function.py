"""The function that the gates of an activation call, part of the model, so that it is written once.

    u = max(x, below * lo + (1 - below) * x)        v = min(u, above * hi + (1 - above) * u)
    y = v + rounding * (scale * rint(v / scale) - v)

These are plain operators and not QuantizeLinear: a runtime would make integer kernels of that, and the function works
for every width.
"""

from __future__ import annotations

import onnx
from onnx import helper

from quantlab.graph import default_opset

DOMAIN = "quantlab.debug"
FUNCTION = "GatedQuantization"
FUNCTIONS_IR = 8
"""First version of ONNX's format that knows functions."""

INPUTS = ("x", "scale", "lo", "hi", "rounding", "below", "above", "keep_below", "keep_above")
"""`keep_below` is 1 - below, and `keep_above` 1 - above."""

_BODY = (
    ("Mul", ("x", "keep_below"), "kept"),
    ("Mul", ("lo", "below"), "low"),
    ("Add", ("kept", "low"), "floor"),
    ("Max", ("x", "floor"), "u"),
    ("Mul", ("u", "keep_above"), "left"),
    ("Mul", ("hi", "above"), "high"),
    ("Add", ("left", "high"), "ceiling"),
    ("Min", ("u", "ceiling"), "v"),
    ("Div", ("v", "scale"), "steps"),
    ("Round", ("steps",), "whole"),
    ("Mul", ("whole", "scale"), "rounded"),
    ("Sub", ("rounded", "v"), "error"),
    ("Mul", ("error", "rounding"), "part"),
    ("Add", ("v", "part"), "y"),
)


def declare_function(model: onnx.ModelProto) -> None:
    """Add the function to a model.

    Args:
        model: The model; it is changed.
    """
    standard = helper.make_opsetid("", default_opset(model))
    body = [helper.make_node(op, inputs, [output]) for op, inputs, output in _BODY]
    model.functions.append(helper.make_function(DOMAIN, FUNCTION, INPUTS, ["y"], body, [standard]))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    model.ir_version = max(model.ir_version, FUNCTIONS_IR)
