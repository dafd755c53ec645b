"""Photos out of packages: the pictures of scikit-image and the cut-out photo stamps of Tux Paint."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .fetch import member, members
from .packages import SCIKIT_IMAGE, TUXPAINT_STAMPS

STAMP_FOLDER = "usr/share/tuxpaint/stamps/"

# Pictures of the world in colour or grey; diagrams, pages and microscopy are left out.
SCENES = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
    "brick.png",
    "grass.png",
    "gravel.png",
)


def scene(name: str) -> Image.Image:
    """Return one picture of scikit-image as RGB."""
    return Image.open(io.BytesIO(member(SCIKIT_IMAGE, f"skimage/data/{name}"))).convert("RGB")


def stamps(names: Sequence[str]) -> list[Image.Image]:
    """Return photo stamps as RGB on a white background, in the order asked for.

    Args:
        names: Paths below the stamps folder without `.png`, such as `animals/birds/owl`.

    Returns:
        One picture a name, at its own size.
    """
    paths = [f"{STAMP_FOLDER}{name}.png" for name in names]
    found = members(TUXPAINT_STAMPS, paths)
    return [_on_white(Image.open(io.BytesIO(found[path]))) for path in paths]


def square(image: Image.Image, size: int, margin: float = 0.0) -> Image.Image:
    """Fit a picture into a white square.

    Args:
        image: Any RGB picture.
        size: Side of the square in pixels.
        margin: White border on each side, as a share of the square.

    Returns:
        The picture, scaled without distortion and centred.
    """
    room = round(size * (1 - 2 * margin))
    factor = room / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    canvas = Image.new("RGB", (size, size), "white")
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return canvas


def centre_crop(image: Image.Image, size: int, share: float = 0.875) -> Image.Image:
    """Cut the centred square whose side is `share` of the shorter side, and scale it to `size` pixels."""
    side = round(min(image.size) * share)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return a picture as float32 of shape `(3, H, W)`, 0 to 255."""
    return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1))


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
