"""What a calibration of the peer's came to: for every tensor its range, and what the calibrator saw of it.

The JSON is that of onnxruntime.quantization 1.31.1, `save_tensors_data` and `load_tensors_data` of `calibrate.py`, in
both directions.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from quantlab.arrays import Range
from quantlab.calibration import RangeTable, table_formats
from quantlab.calibration.tables.table import largest
from quantlab.errors import DataError, OptionError, QuantlabWarning
from quantlab.graph.files import atomic_write


class CalibrationMethod(Enum):
    """How ranges are found."""

    MinMax = 0
    Entropy = 1
    Percentile = 2
    Distribution = 3


class TensorData:
    """What is known of one tensor; only what is given becomes an attribute.

    Args:
        kwargs: Any of `lowest`, `highest`, `avg`, `std`, `hist_edges` (NumPy numbers or arrays of float16 or float32),
            `hist` and `bins`.

    Raises:
        OptionError: Another name, or a number without such a type; it is a ValueError too.

    Example:
        >>> TensorData(lowest=np.float32(-1), highest=np.float32(2)).range_value == (-1, 2)
        True
    """

    _floats: ClassVar[tuple[str, ...]] = ("avg", "std", "lowest", "highest", "hist_edges")
    _allowed: ClassVar[tuple[str, ...]] = (*_floats, "hist", "bins")

    def __init__(self, **kwargs: Any) -> None:
        self._attrs = list(kwargs)
        for name, value in kwargs.items():
            if name not in self._allowed:
                raise OptionError(f"a TensorData has no {name!r} (allowed: {', '.join(sorted(self._allowed))})")
            if name in self._floats and getattr(value, "dtype", None) not in (np.float16, np.float32):
                kind = getattr(value, "dtype", type(value).__name__)
                raise OptionError(f"{name!r} must be float16 or float32 of NumPy, got {kind}")
            setattr(self, name, value)

    def _pair(self, first: str, second: str) -> tuple[Any, Any]:
        for name in (first, second):
            if not hasattr(self, name):
                raise AttributeError(f"this TensorData has no {name!r}; it has {', '.join(self._attrs) or 'nothing'}")
        return getattr(self, first), getattr(self, second)

    @property
    def range_value(self) -> tuple[Any, Any]:
        """Both ends: `(lowest, highest)`."""
        return self._pair("lowest", "highest")

    @property
    def avg_std(self) -> tuple[Any, Any]:
        """Average and deviation: `(avg, std)`."""
        return self._pair("avg", "std")

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, and the name of the class as `CLS`."""
        return {**{name: getattr(self, name) for name in self._attrs}, "CLS": "TensorData"}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        """Return what `to_dict` gave, before or after a way through JSON."""
        return cls(**{name: _decoded(value, name in cls._floats) for name, value in d.items() if name != "CLS"})


def _decoded(value: Any, is_float: bool) -> Any:
    if isinstance(value, dict) and value.get("CLS") == "numpy.array":
        return np.array(value["data"], dtype=np.dtype(value["dtype"]))
    return np.array(value, dtype=np.float32) if is_float and isinstance(value, int | float) else value


class TensorsData:
    """The tensors of a model, by name.

    Args:
        calibration_method: How the ranges were found.
        data: Tensor to a TensorData, or to a tuple `(lowest, highest)` or `(lowest, highest, hist, bins)`.

    Raises:
        TypeError: A name is no string, or a value is neither.
    """

    def __init__(self, calibration_method: Any, data: Mapping[str, Any]) -> None:
        self.calibration_method = calibration_method
        self.data = {_checked(name): _tensor_data(name, value) for name, value in data.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __getitem__(self, key: str) -> TensorData:
        return self.data[key]

    def __setitem__(self, key: str, value: TensorData) -> None:
        if key not in self.data:
            raise RuntimeError(f"there is no tensor {key!r} to change: only those that were calibrated are here")
        self.data[key] = value

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self.data.keys()

    def values(self) -> ValuesView[TensorData]:
        """Return what is known of each tensor."""
        return self.data.values()

    def items(self) -> ItemsView[str, TensorData]:
        """Return names with what is known of each."""
        return self.data.items()

    def to_dict(self) -> dict[str, Any]:
        """Return data and method, and the name of the class as `CLS`."""
        return {"CLS": "TensorsData", "data": self.data, "calibration_method": self.calibration_method}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        """Return what `to_dict` gave, before or after a way through JSON."""
        method = d["calibration_method"]
        if isinstance(method, dict) and method.get("CLS") == "CalibrationMethod":
            method = CalibrationMethod[method["value"].rpartition(".")[2]]
        return cls(method, {name: TensorData.from_dict(value) for name, value in d["data"].items()})


def _checked(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"tensors have names, got the {type(name).__name__} {name!r}")
    return name


def _tensor_data(name: str, value: Any) -> TensorData:
    if isinstance(value, tuple) and len(value) in (2, 4):
        return TensorData(**dict(zip(("lowest", "highest", "hist", "bins"), value, strict=False)))
    if not isinstance(value, TensorData):
        raise TypeError(
            f"tensor {name!r} needs a TensorData, or a tuple of 2 or 4, got a {type(value).__name__}"
            + (f" of {len(value)}" if isinstance(value, tuple) else "")
        )
    return value


class CalibrationCacheEncoder(json.JSONEncoder):
    """Writes the values of this module, and NumPy's, as JSON."""

    def default(self, o: Any) -> Any:
        """Return a value of plain types."""
        if isinstance(o, TensorData | TensorsData):
            return o.to_dict()
        if isinstance(o, np.ndarray):
            return {"data": o.tolist(), "dtype": str(o.dtype), "CLS": "numpy.array"}
        if isinstance(o, CalibrationMethod):
            return {"CLS": "CalibrationMethod", "value": str(o)}
        if isinstance(o, np.integer | np.floating):
            return o.item()
        return super().default(o)


def save_tensors_data(tensors_data: TensorsData, path: str | os.PathLike[str], *, smooth_quant: bool = False) -> None:
    """Write ranges into a file, all of it or nothing.

    Args:
        tensors_data: The ranges.
        path: The file; folders that are missing are made.
        smooth_quant: Whether they were measured on a model that SmoothQuant had changed.

    Raises:
        ModelError: The file cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**tensors_data.to_dict(), "smooth_quant": smooth_quant}, cls=CalibrationCacheEncoder)
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def load_tensors_data(path: str | os.PathLike[str]) -> TensorsData:
    """Read ranges from a file that `save_tensors_data` wrote, here or in the peer.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: It holds something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no calibration cache {str(path)!r}")
    try:
        return TensorsData.from_dict(json.loads(Path(path).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{str(path)!r} is no calibration cache: {error}") from error


def write_calibration_table(
    calibration_cache: TensorsData | Mapping[str, TensorData],
    dir: str | os.PathLike[str] = ".",  # noqa: A002  # the peer's word
) -> None:
    """Write `calibration.json`, `calibration.flatbuffers` and `calibration.cache`, for onnxruntime's TensorRT provider.

    The last two hold one number a tensor, its largest absolute value. The peer writes max(lowest, highest) in its
    place; where that is another number, a warning says so.

    Args:
        calibration_cache: The ranges.
        dir: The folder.

    Raises:
        ModelError: A file cannot be written.
        OptionError: A tensor's name has no place in a format.
    """
    table = table_of(calibration_cache)
    ranges = table.ranges
    other = sorted(name for name, one in ranges.items() if largest(one) != largest(one, "onnxruntime"))
    if other:
        one = ranges[other[0]]
        warnings.warn(
            f"{len(other)} tensors get their largest absolute value; the peer writes the upper end, which is too small "
            f"there: {other[0]!r} has {largest(one)}, not {largest(one, 'onnxruntime')}",
            QuantlabWarning,
            stacklevel=2,
        )
    files = {
        "json": json.dumps(calibration_cache, cls=CalibrationCacheEncoder).encode(),
        "flatbuffers": table_formats["onnxruntime-flatbuffers"].write(table, "absolute"),
        "cache": table_formats["onnxruntime-text"].write(table, "absolute"),
    }
    for ending, content in files.items():
        with atomic_write(Path(dir) / f"calibration.{ending}") as temporary:
            temporary.write_bytes(content)


def table_of(tensors: TensorsData | Mapping[str, TensorData]) -> RangeTable:
    """Return ranges as a table of ours; an end that is not known is 0, as in the peer.

    Args:
        tensors: What is known of each tensor.
    """
    return RangeTable(ranges={name: _range(data) for name, data in tensors.items()})


def _range(data: TensorData) -> Range:
    ends = (np.ravel(getattr(data, name, np.float32(0))) for name in ("lowest", "highest"))
    lo, hi = (end.reshape(()) if end.size == 1 else end for end in ends)
    return Range(np.minimum(lo, hi), np.maximum(lo, hi))
