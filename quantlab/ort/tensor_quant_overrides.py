"""Overrides: settings that hold for one tensor, or for each channel of one, instead of a model's.

    {tensor: [{"quant_type": ..., "symmetric": ..., ...}]}                     for the tensor
    {tensor: [{"axis": 0, "scale": ..., "zero_point": ...}, {...}, ...]}       for its channels

Every tensor is checked; onnxruntime.quantization 1.31.1 checks the first one only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from quantlab.ort.kinds import QuantType
from quantlab.ort.override_checks import complaint

Override = dict[str, Any]


@dataclass(eq=False)
class QuantTypeInfo:
    """What is known of the grid that a node reads or makes; None stands for the default.

    Attributes:
        quant_type: The type.
        symmetric: Whether the grid is centred on zero.
        reduce_range: Whether one bit is given away.
        axis: Channel axis; None for one scale.
    """

    quant_type: Any
    symmetric: bool | None = None
    reduce_range: bool | None = None
    axis: int | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether two may be the same: what either leaves open is no difference, but for type and axis."""
        if not isinstance(other, QuantTypeInfo):
            return NotImplemented
        pairs = ((self.symmetric, other.symmetric), (self.reduce_range, other.reduce_range))
        same = self.quant_type == other.quant_type and self.axis == other.axis
        return same and all(None in pair or pair[0] == pair[1] for pair in pairs)

    # What is equal here is no equivalence, so that there is no hash.
    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def load_from_dict(
        raw_dict: Mapping[str, Any],
        default_qtype: QuantType | None = None,
        default_symmetric: bool | None = None,
        default_reduce_range: bool | None = None,
    ) -> QuantTypeInfo:
        """Return what an override says, and the defaults for the rest."""
        return QuantTypeInfo(
            raw_dict.get("quant_type", default_qtype),
            raw_dict.get("symmetric", default_symmetric),
            raw_dict.get("reduce_range", default_reduce_range),
            raw_dict.get("axis"),
        )

    def save_to_dict(self, raw_dict: Override) -> None:
        """Write what is known into an override."""
        raw_dict["quant_type"] = self.quant_type
        known = {"symmetric": self.symmetric, "reduce_range": self.reduce_range, "axis": self.axis}
        raw_dict.update({name: value for name, value in known.items() if value is not None})


class TensorQuantOverridesHelper(MutableMapping[str, list[Override]]):
    """Overrides of a model, as a mapping from tensor to a list, with what is asked of them.

    Args:
        raw_overrides: Tensor to list of dicts; it is kept and changed in place.
    """

    def __init__(self, raw_overrides: dict[str, list[Override]]) -> None:
        self.overrides = raw_overrides
        self.quant_types: set[Any] | None = None

    def _first(self, tensor_name: str) -> Override:
        return (self.overrides.get(tensor_name) or [{}])[0]

    def has_per_tensor_overrides(self, tensor_name: str) -> bool:
        """Return whether a tensor has overrides for all of it."""
        return bool(self.overrides.get(tensor_name)) and "axis" not in self._first(tensor_name)

    def has_per_channel_overrides(self, tensor_name: str) -> bool:
        """Return whether a tensor has overrides for its channels."""
        return "axis" in self._first(tensor_name)

    def overrides_scale_zp(self, tensor_name: str) -> bool:
        """Return whether scale and zero point of a tensor are given."""
        return {"scale", "zero_point"} <= set(self._first(tensor_name))

    def get_per_tensor_overrides(self, tensor_name: str, default_val: Override | None = None) -> Override | None:
        """Return the overrides of a tensor, or the default.

        Raises:
            ValueError: They are for its channels.
        """
        if self.has_per_channel_overrides(tensor_name):
            raise ValueError(f"the overrides of tensor {tensor_name!r} are for its channels, not for all of it")
        listed = self.overrides.get(tensor_name, [default_val] if default_val is not None else [])
        return listed[0] if listed else None

    def get_per_channel_overrides(
        self, tensor_name: str, default_val: list[Override] | None = None
    ) -> list[Override] | None:
        """Return the overrides of a tensor's channels, or the default.

        Raises:
            ValueError: They are for all of it, since the first has no axis.
        """
        listed = self.overrides.get(tensor_name, default_val)
        if not listed:
            return None
        if "axis" not in listed[0]:
            raise ValueError(f"the overrides of tensor {tensor_name!r} are for all of it: the first has no 'axis'")
        return listed

    def get_quant_types(self) -> set[Any]:
        """Return all types that overrides ask for, those they convert to included."""
        if self.quant_types is None:
            entries = [entry for listed in self.overrides.values() for entry in listed]
            entries += [entry["convert"] for entry in entries if "convert" in entry]
            self.quant_types = {entry["quant_type"] for entry in entries if "quant_type" in entry}
        return self.quant_types

    def is_valid(
        self,
        initializers: Mapping[str, onnx.TensorProto],
        activation_names: Collection[str],
        default_activation_qtype: Any,
    ) -> tuple[bool, str | None]:
        """Check all overrides against a model.

        Args:
            initializers: Its constants by name.
            activation_names: Its other tensors.
            default_activation_qtype: Type of an activation without an override.

        Returns:
            Whether they can be used, and if not, why.
        """
        self.quant_types = None
        for name, listed in self.overrides.items():
            if name not in initializers and name not in activation_names:
                return False, f"the model has no tensor {name!r}, and overrides name it"
            wrong = complaint(name, listed, initializers.get(name), default_activation_qtype)
            if wrong is not None:
                return False, f"overrides of tensor {name!r}: {wrong}"
        return True, None

    def update_tensor_overrides(
        self,
        tensor_name: str,
        new_vals: Mapping[str, Any],
        channels: Sequence[int] | None = None,
        overwrite: bool = True,
    ) -> bool:
        """Add to the overrides of a tensor, all or nothing.

        Args:
            tensor_name: The tensor.
            new_vals: Settings to add.
            channels: Places in its list, or None for all.
            overwrite: Whether settings that it has already may change.

        Returns:
            Whether they were added.
        """
        listed = self.overrides.get(tensor_name) or [{}]
        wanted = [entry for place, entry in enumerate(listed) if channels is None or place in channels]
        if not new_vals or (not overwrite and any(set(new_vals) & set(entry) for entry in wanted)):
            return False
        for entry in wanted:
            entry.update(new_vals)
        self.overrides[tensor_name] = listed
        self.quant_types = None
        return True

    def get_node_output_qtype_info(
        self, output_name: str, default_qtype: QuantType | None, default_symmetric: bool | None = None
    ) -> QuantTypeInfo:
        """Return what is known of the grid on which a node makes a tensor."""
        entry = self._first(output_name)
        return QuantTypeInfo(entry.get("quant_type", default_qtype), entry.get("symmetric", default_symmetric))

    def get_node_input_qtype_info(
        self,
        input_name: str,
        node_name: str,
        default_qtype: QuantType | None,
        default_symmetric: bool | None = None,
        default_reduce_range: bool | None = None,
    ) -> QuantTypeInfo:
        """Return what is known of the grid on which a node reads a tensor.

        Args:
            input_name: The tensor.
            node_name: The node: a tensor may be converted for some of its readers only.
            default_qtype: Type where there is no override, like the two that follow.
            default_symmetric: See above.
            default_reduce_range: See above.
        """
        entry = self._first(input_name)
        if "convert" not in entry:
            return QuantTypeInfo.load_from_dict(entry, default_qtype, default_symmetric, default_reduce_range)
        converted = entry["convert"]
        for_it = "recv_nodes" not in converted or node_name in converted["recv_nodes"]
        kind = converted["quant_type"] if for_it else entry.get("quant_type", default_qtype)
        return QuantTypeInfo(kind, converted.get("symmetric", default_symmetric))

    def pprint_str(self, indent: int | str | None = None) -> str:
        """Return the overrides as JSON; what JSON has no form for, as text."""
        return json.dumps(self.overrides, default=str, indent=indent)

    def empty(self) -> bool:
        """Return whether there are none."""
        return not self.overrides

    def get_dict(self) -> dict[str, list[Override]]:
        """Return the dict itself."""
        return self.overrides

    def __setitem__(self, key: str, value: list[Override]) -> None:
        self.overrides[key] = value

    def __getitem__(self, key: str) -> list[Override]:
        return self.overrides[key]

    def __delitem__(self, key: str) -> None:
        del self.overrides[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.overrides)

    def __len__(self) -> int:
        return len(self.overrides)

    def __str__(self) -> str:
        return str(self.overrides)

    def __repr__(self) -> str:
        return f"TensorQuantOverridesHelper({self.overrides})"
