"""Operator types that can be quantized, by the way in which it is done, with the rules that say how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from quantlab.errors import OptionError, nearest
from quantlab.ort.missing import unbuilt
from quantlab.plan import op_rules

__all__ = [
    "CommonOpsRegistry",
    "CreateDefaultOpQuantizer",
    "CreateOpQuantizer",
    "CreateQDQQuantizer",
    "IntegerOpsRegistry",
    "QDQRegistry",
    "QLinearOpsRegistry",
]


class Rules(Mapping[str, Any]):
    """Our rules for some operator types; loaded when one is asked for.

    Args:
        op_types: The operator types; None for all that have a rule.
    """

    def __init__(self, *op_types: str) -> None:
        self._op_types = op_types

    def __getitem__(self, op_type: str) -> Any:
        if op_type not in set(self):
            raise OptionError(f"there is no rule for operator {op_type!r}{nearest(op_type, self)}")
        return op_rules[op_type]

    def __contains__(self, op_type: object) -> bool:
        return op_type in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._op_types or sorted(op_rules))

    def __len__(self) -> int:
        return sum(1 for _ in self)


CommonOpsRegistry = Rules("Gather", "Transpose")
IntegerOpsRegistry: Mapping[str, Any] = MappingProxyType({})
"""Empty: models whose activations get their grids while they run are not built yet."""
QLinearOpsRegistry = Rules()
QDQRegistry = Rules()

_RULES = "register a rule in quantlab.plan.op_rules"
CreateDefaultOpQuantizer = unbuilt("CreateDefaultOpQuantizer", __name__, _RULES)
CreateOpQuantizer = unbuilt("CreateOpQuantizer", __name__, _RULES)
CreateQDQQuantizer = unbuilt("CreateQDQQuantizer", __name__, _RULES)
