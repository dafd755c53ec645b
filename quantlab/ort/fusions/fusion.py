"""A fusion is a change of a model that may be applied to it; here it is a row of passes."""

from __future__ import annotations

from quantlab.errors import OptionError
from quantlab.graph import Pass, Sequential
from quantlab.ort.onnx_model import ONNXModel


class Fusion:
    """Applies passes to a model, in place.

    The peer's class of this name searches graphs node by node, for classes made from it; here that is the work of a
    `quantlab.graph.Pass`.

    Args:
        model: The model.
        passes: What to apply, in this order.

    Raises:
        OptionError: Something is no pass, as where a class is written for the peer's.
    """

    def __init__(self, model: ONNXModel, *passes: Pass) -> None:
        for step in passes:
            if not isinstance(step, Pass):
                raise OptionError(f"a Fusion is made of passes here (quantlab.graph.Pass), got {step!r}")
        self.model, self.passes = model, passes

    def apply(self) -> bool:
        """Apply the passes.

        Returns:
            Whether anything changed.
        """
        made = Sequential(*self.passes)(self.model.model)
        if made.changed:
            self.model.model.CopyFrom(made.model)
        return made.changed
