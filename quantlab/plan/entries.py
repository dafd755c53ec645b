"""The entries of a plan: what one tensor gets, and what happens to one node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from quantlab.arrays import QParams, QuantSpec, Range
from quantlab.plan.wishes import Role

Status = Literal["quantized", "absorbed", "float"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A second grid of an activation, to which some of its readers find it converted.

    Attributes:
        spec: The grid.
        readers: Names of the nodes that read the converted tensor, or None for all.
        ends: One end of the range that is given where the other is measured; None in place of the measured one.
        values: The range, once it is known.
        qparams: Scale and zero point, once they are known.
    """

    spec: QuantSpec
    readers: tuple[str, ...] | None = None
    ends: tuple[float | None, float | None] | None = None
    values: Range | None = None
    qparams: QParams | None = None

    @cached_property
    def _chosen(self) -> frozenset[str] | None:
        """The readers as a set: thousands of nodes may read one tensor, and each of them asks."""
        return None if self.readers is None else frozenset(self.readers)

    def is_for(self, node: str) -> bool:
        """Say whether a node is among the readers."""
        return self._chosen is None or node in self._chosen


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
        convert: A second grid, for some of these readers.
        on_converted: Whether what `like` or `product` follows is the second grid of that activation.
        ends: One end of the range that is given where the other is measured; None in place of the measured one.
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
    convert: Conversion | None = None
    on_converted: bool = False
    ends: tuple[float | None, float | None] | None = None
    values: Range | None = None
    source: str = ""
    qparams: QParams | None = None

    @property
    def resolved(self) -> bool:
        """Whether all its numbers are known."""
        return self.qparams is not None and (self.convert is None or self.convert.qparams is not None)

    @property
    def measured(self) -> bool:
        """Whether its range has to be measured on data."""
        if self.role != "activation" or self.like or self.fixed:
            return False
        second = self.convert
        return not (self.values or self.qparams) or (second is not None and not (second.values or second.qparams))

    def converts_for(self, node: str) -> bool:
        """Say whether a node reads the converted tensor."""
        return self.convert is not None and self.convert.is_for(node)

    def spec_for(self, node: str) -> QuantSpec:
        """Return the grid on which a node reads the tensor."""
        return self.convert.spec if self.convert is not None and self.converts_for(node) else self.spec

    def followed(self, on_converted: bool) -> QParams | None:
        """Return the numbers that a tensor following this one takes over."""
        return self.convert.qparams if on_converted and self.convert is not None else self.qparams


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """What happens to one node: its operator type, whether it is quantized, and why or why not."""

    op: str
    status: Status
    reason: str
