"""A checkpoint is a calibration that can be gone on with: statistics, how many samples they hold, and of what.

It is written all at once, now and then, so that a process may be killed at any moment. What goes on with it must be the
same model, the same options and the same data; hashes tell.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantlab.backend import Array, Batch
from quantlab.calibration import Statistic
from quantlab.calibration.store import load_statistics, save_statistics
from quantlab.errors import DataError
from quantlab.graph.external import is_external, mapped
from quantlab.graph.files import atomic_write, split_weights

EVERY = 10.0
"""Seconds between two savings, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a calibration has come.

    Attributes:
        samples: How many samples the statistics hold: the first ones of the data.
        last: Hash of the last of them, empty where there is none.
        statistics: Tensor to statistic.
        state: State input to what the next sample is fed with, for a model whose outputs are fed back.
    """

    samples: int
    last: str
    statistics: Mapping[str, Statistic]
    state: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a calibration is saved, and what it is a calibration of.

    Attributes:
        path: The file.
        identity: What must be equal to go on, by name: hashes of model and options.
        every: Seconds between two savings.
    """

    path: Path
    identity: Mapping[str, str] = field(default_factory=dict)
    every: float = EVERY

    def load(self) -> Position | None:
        """Read how far the calibration has come, or None where it has not begun.

        Raises:
            DataError: The file is no checkpoint, or one of another model or other options; the text names both hashes.
        """
        if not self.path.exists():
            return None
        stored = load_statistics(self.path)
        found = stored.meta.get("identity")
        if not isinstance(found, dict) or {"samples", "last"} - set(stored.meta):
            raise DataError(f"{str(self.path)!r} holds statistics but is no checkpoint: give another --checkpoint file")
        for name, wanted in self.identity.items():
            if found.get(name) != wanted:
                raise DataError(
                    f"checkpoint {str(self.path)!r} was made with another {name}: its hash is {found.get(name)}, "
                    f"here it is {wanted}; remove the file to begin anew, or give another one"
                )
        return Position(
            samples=int(stored.meta["samples"]),
            last=str(stored.meta["last"]),
            statistics=stored.statistics,
            state={name: _array(plain) for name, plain in stored.meta.get("state", {}).items()},
        )

    def save(self, position: Position) -> None:
        """Write how far the calibration has come, all of it or nothing.

        Raises:
            ModelError: The file cannot be written.
        """
        state = {name: _plain(array) for name, array in position.state.items()}
        meta = {"identity": dict(self.identity), "samples": position.samples, "last": position.last, "state": state}
        with atomic_write(self.path) as temporary:
            save_statistics(temporary, position.statistics, meta)


def _plain(array: Array) -> dict[str, Any]:
    """Write an array of plain numbers as JSON values."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "dtype": data.dtype.str,
        "shape": list(np.shape(array)),
        "data": base64.b64encode(data.tobytes()).decode("ascii"),
    }


def _array(plain: Mapping[str, Any]) -> Array:
    """Read what `_plain` wrote."""
    array = np.frombuffer(base64.b64decode(plain["data"]), np.dtype(plain["dtype"])).reshape(plain["shape"])
    return array.astype(array.dtype.newbyteorder("="))


def model_hash(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of a model's content, of any size: large weights are taken one by one."""
    rest, weights = split_weights(model)
    digest = hashlib.sha256(rest.SerializeToString(deterministic=True))
    for tensor in weights.values():
        if is_external(tensor):  # what counts is the content, not where it lies
            digest.update(repr((tensor.name, tensor.data_type, list(tensor.dims))).encode())
            digest.update(mapped(tensor).data)
        else:
            digest.update(tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()


def batch_hash(batch: Batch | None) -> str:
    """Return the SHA-256 of a sample: names, types, shapes and values; an empty text for no sample."""
    if batch is None:
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(batch.items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name} {array.dtype.str} {np.shape(value)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
