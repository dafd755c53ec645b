"""The entries of a plan: what one tensor gets, and what happens to one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantlab.arrays import QParams, QuantSpec, Range
from quantlab.plan.wishes import Role

Status = Literal["quantized", "absorbed", "float"]


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """What one tensor gets.

    Invariants:
        * At most one of `like`, `product` is set.
        * `like` names a tensor that is in the plan and has no `like` itself.
        * `qparams`, once there, has the grid `spec`.

    Attributes:
        role: What the tensor is to the nodes that asked.
        spec: Its grid.
        dtype: Floating-point type of the tensor, and so of its scale.
        reason: Which nodes asked for a grid.
        like: Tensor whose numbers are shared.
        product: For a bias: activation and weight whose scales multiply.
        factor: Constant factor of that product.
        absorbs: Tensor that feeds this one through a Relu or Clip that may go.
        within: Bounds of that Relu or Clip.
        fixed: Range known without data.
        range_of: Tensor whose range is used instead of this one's own.
        readers: Names of the nodes that read the rounded tensor, or None for all.
        values: The range, once it is known.
        source: Where the range came from, in words.
        qparams: Scale and zero point, once they are known.
    """

    role: Role
    spec: QuantSpec
    dtype: str = "float32"
    reason: str = ""
    like: str | None = None
    product: tuple[str, str] | None = None
    factor: float = 1.0
    absorbs: str | None = None
    within: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    range_of: str | None = None
    readers: tuple[str, ...] | None = None
    values: Range | None = None
    source: str = ""
    qparams: QParams | None = None


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """What happens to one node: its operator type, whether it is quantized, and why or why not."""

    op: str
    status: Status
    reason: str
