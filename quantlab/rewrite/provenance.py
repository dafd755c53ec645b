"""A quantized model carries its own reasons: the plan, compressed, in its metadata.

Scales and ranges per channel are left out, for they stand in the model's initializers already.
"""

from __future__ import annotations

import base64
import zlib

import onnx

from quantlab.plan import QuantPlan

KEY = "quantlab.plan"


def embed_plan(model: onnx.ModelProto, plan: QuantPlan) -> onnx.ModelProto:
    """Return a copy of a model with a plan in its metadata.

    Args:
        model: A quantized model; it is not changed.
        plan: The plan it was written from.

    Returns:
        The copy; its metadata entry `quantlab.plan` is the plan's JSON, deflated and base64-encoded.
    """
    text = plan.to_json(channels=False)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    copy.metadata_props.add(key=KEY, value=base64.b64encode(zlib.compress(text.encode())).decode())
    return copy


def embedded_plan(model: onnx.ModelProto) -> QuantPlan | None:
    """Read the plan that a quantized model carries, or None where it has none.

    Args:
        model: Any model.

    Returns:
        The plan; tensors with a scale a channel come without their numbers.

    Raises:
        OptionError: There is an entry, but it is no plan.
    """
    for entry in model.metadata_props:
        if entry.key == KEY:
            return QuantPlan.from_json(zlib.decompress(base64.b64decode(entry.value)).decode())
    return None
