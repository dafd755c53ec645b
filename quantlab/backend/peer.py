"""onnxruntime.quantization, called for comparison; the only place where its quantizer is run."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantlab.backend.base import Batch
from quantlab.errors import ModelError, QuantlabError
from quantlab.graph.files import load

_ENUMS = {
    "quant_format": "QuantFormat",
    "activation_type": "QuantType",
    "weight_type": "QuantType",
    "calibrate_method": "CalibrationMethod",
}
_OVERRIDES = "TensorQuantOverrides"


def peer_quantize_static(
    model: onnx.ModelProto, batches: Sequence[Batch], options: Mapping[str, Any]
) -> onnx.ModelProto:
    """Quantize a model with `onnxruntime.quantization.quantize_static`.

    Args:
        model: A float model below 2 GB; it is not changed.
        batches: The samples.
        options: Arguments of `quantize_static` but for files and data; enumerations by their names.

    Returns:
        The model that it wrote.

    Raises:
        ModelError: It failed; its own words follow.
        QuantlabError: onnxruntime is not installed.
    """
    try:
        peer = importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        raise QuantlabError("cross-checking needs onnxruntime: pip install 'quantlab-onnx[runtime]'") from error
    given = {
        name: getattr(getattr(peer, _ENUMS[name]), value) if name in _ENUMS else value
        for name, value in options.items()
    }
    with tempfile.TemporaryDirectory() as folder, _silent():
        source, target = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        onnx.save(model, source)
        try:
            peer.quantize_static(source, target, _reader(peer, batches), **_with_types(peer, given))
        except Exception as error:  # it raises whatever its code runs into
            words = str(error).strip().splitlines()
            raise ModelError(f"onnxruntime.quantization fails: {type(error).__name__}: {(words or [''])[0]}") from error
        return load(target)


def _with_types(peer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Give types and numbers in tensor overrides as the peer wants them: its own enumeration, NumPy's float32."""

    def typed(key: str, value: Any) -> Any:
        if key == "quant_type":
            return getattr(peer.QuantType, value)
        return np.float32(value) if isinstance(value, float) else value

    extra = dict(given.get("extra_options") or {})
    if _OVERRIDES in extra:
        extra[_OVERRIDES] = {
            name: [{key: typed(key, value) for key, value in entry.items()} for entry in entries]
            for name, entries in extra[_OVERRIDES].items()
        }
    return {**given, "extra_options": extra} if extra else given


def _reader(peer: Any, batches: Sequence[Batch]) -> Any:
    class Reader(peer.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left: Iterator[Batch] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            return None if batch is None else dict(batch)

    return Reader()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the peer prints, logs and warns of away from the user, who asked for a comparison."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
