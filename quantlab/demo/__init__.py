"""The embedded demonstration: 1,797 real handwritten digits with their labels, and a small float32 CNN trained on half.

The images are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, DOI 10.24432/C50P49, CC BY 4.0); `README.md` beside this file carries the full credit.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODEL_FILE", "TRAIN_COUNT", "Digits", "digits", "float_model"]

MODEL_FILE = "digits_cnn.onnx"
TRAIN_COUNT = 898
"""How many rows, from the first, form the training half; the other 899 are held out.

The halves are contiguous because neighbouring rows tend to show the same hand: 54 % of the images have their nearest
neighbour within 100 rows. An interleaved split would put the same hands in both halves and flatter the accuracy.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """The digits in the order of the UCI file, with the fixed split into a training and a held-out half.

    Attributes:
        images: Pixel values in 0..1 (sixteenths), float32 of shape `(N, 1, 8, 8)`, read-only.
        labels: The digit each image shows, int64 of shape `(N,)`, values 0..9, read-only.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def train_images(self) -> NDArray[np.float32]:
        """Images the embedded model was trained on, `(898, 1, 8, 8)`; also the ones to calibrate with."""
        return self.images[:TRAIN_COUNT]

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Labels of `train_images`, `(898,)`."""
        return self.labels[:TRAIN_COUNT]

    @property
    def test_images(self) -> NDArray[np.float32]:
        """Held-out images, `(899, 1, 8, 8)`, which the embedded model has never seen."""
        return self.images[TRAIN_COUNT:]

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Labels of `test_images`, `(899,)`."""
        return self.labels[TRAIN_COUNT:]


def digits() -> Digits:
    """Read the embedded digits.

    Returns:
        All 1,797 images and labels, and the two halves as views of them.

    Example:
        >>> data = digits()
        >>> data.images.shape, data.train_images.shape, data.test_images.shape
        ((1797, 1, 8, 8), (898, 1, 8, 8), (899, 1, 8, 8))
        >>> data.labels[:12].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    """
    with np.load(io.BytesIO(_read("digits.npz")), allow_pickle=False) as archive:
        # Pixels are counts 0..16, so division by 16 is exact in float32.
        images = archive["images"][:, np.newaxis].astype(np.float32) / np.float32(16)
        labels = archive["labels"].astype(np.int64)
    return Digits(images=_read_only(images), labels=_read_only(labels))


def float_model() -> bytes:
    """Read the embedded float32 CNN, a serialized ONNX model made by `python -m quantlab.demo.train`.

    Its input is `image`, float32 `(N, 1, 8, 8)` with pixel values in 0..1; its output is `logits`, float32 `(N, 10)`.

    Returns:
        The bytes of the model file.

    Example:
        >>> import onnx
        >>> model = onnx.load_from_string(float_model())
        >>> [value.name for value in (*model.graph.input, *model.graph.output)]
        ['image', 'logits']
    """
    return _read(MODEL_FILE)


def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
