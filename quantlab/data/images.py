"""An image pipeline turns a picture file into one sample of a model input.

For a pixel `p` of 0..255, after the picture was converted to the wanted channels and resized (bilinear, with
antialiasing when it shrinks):

    x = (scale * p - mean) / std        in float64, rounded once to the input's float type
    x = p                               when the input is uint8

then the axes are put in the model's order and the batch axis is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from quantlab.data.signature import Array, Dim, InputSpec
from quantlab.errors import DataError, OptionError, nearest

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PIXEL_SCALE = 1 / 255
CHOICES = {
    "layout": ("auto", "NCHW", "NHWC"),
    "channels": ("auto", "RGB", "BGR", "L"),
    "resize": ("stretch", "crop"),
}


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How pictures become model inputs. What is left at its default is read from the model.

    Attributes:
        layout: Order of the axes. "auto" looks where the model's input has 1 or 3 channels.
        size: (height, width) in pixels; needed when the model leaves them dynamic.
        mean: Subtracted after scaling, one number or one a channel, in the order of `channels`.
        std: Divides after that, likewise.
        scale: Factor on the pixels 0..255; not used for a uint8 input, which takes raw pixels.
        channels: "RGB", "BGR", or "L" (grey). "auto" is RGB for 3 channels and L for 1.
        resize: "stretch" changes the aspect ratio where it has to. "crop" cuts out the largest central box of the
            wanted aspect ratio and resizes that.
        crop_fraction: Share of that box's sides which is kept. 0.875 is the usual "resize to 256, crop 224".

    Raises:
        OptionError: A value that is not allowed.

    Example:
        >>> imagenet = ImageOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="crop")
        >>> imagenet.layout
        'auto'
    """

    layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = PIXEL_SCALE
    channels: Literal["auto", "RGB", "BGR", "L"] = "auto"
    resize: Literal["stretch", "crop"] = "stretch"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            got = getattr(self, name)
            if got not in allowed:
                listed = ", ".join(map(repr, allowed))
                raise OptionError(
                    f"{name}={got!r} is not allowed{nearest(str(got), allowed) or ';'} choose from {listed}"
                )
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise OptionError(f"size={self.size!r} is not allowed; give (height, width) in pixels, such as (224, 224)")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, 3) or not np.isfinite(values).all():
                raise OptionError(f"{name}={values!r} is not allowed; give one finite number, or one for each channel")
        if min(self.std) <= 0:
            raise OptionError(f"std={self.std!r} is not allowed; pixels are divided by it, so give positive numbers")
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise OptionError(f"scale={self.scale!r} is not allowed; give a positive number, such as 1/255")
        if not 0 < self.crop_fraction <= 1:
            raise OptionError(f"crop_fraction={self.crop_fraction!r} is not allowed; give a number in (0, 1]")
        if self.crop_fraction != 1 and self.resize != "crop":
            raise OptionError("crop_fraction has an effect with resize='crop' only; set that, or leave it out")


@dataclass(frozen=True, kw_only=True)
class ImagePipeline:
    """Image options with nothing left open, made for one model input by `image_pipeline`.

    Attributes:
        options: `layout`, `size` and `channels` are settled in it.
        dtype: Type of the model input.
    """

    options: ImageOptions
    dtype: np.dtype[Any]

    def __call__(self, path: Path) -> Array:
        """Read one picture.

        Args:
            path: The picture file.

        Returns:
            Shape (1, C, H, W) or (1, H, W, C).

        Raises:
            DataError: Pillow is missing, or the file is no picture with 8 bits a channel.
        """
        options = self.options
        pixels = np.asarray(_resized(_read(path, "L" if options.channels == "L" else "RGB"), options))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if options.channels == "BGR":
            pixels = pixels[..., ::-1]
        if self.dtype != np.uint8:
            pixels = (pixels * options.scale - np.array(options.mean)) / np.array(options.std)
        if options.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.asarray(pixels[None], dtype=self.dtype, order="C")


def image_pipeline(spec: InputSpec, options: ImageOptions | None = None) -> ImagePipeline:
    """Settle what the options leave open by looking at the model input.

    Args:
        spec: An input of rank 4 with float or uint8 elements.
        options: Defaults when None.

    Returns:
        A function from a picture file to an array of the model's shape and dtype.

    Raises:
        DataError: The input takes no pictures, or leaves something open; the text names the option to give.
        OptionError: An option contradicts the model.
    """
    options = options or ImageOptions()
    if spec.rank != 4:
        raise DataError(f"input {spec} takes no pictures: allowed are inputs of rank 4; convert the pictures to arrays")
    if not (spec.is_float or spec.dtype == np.uint8):
        raise DataError(f"input {spec} takes no pictures: allowed are float and uint8; convert the pictures to arrays")
    if spec.dtype == np.uint8 and (options.scale, options.mean, options.std) != (PIXEL_SCALE, (0.0,), (1.0,)):
        raise OptionError(f"input {spec} takes raw pixels: leave out scale, mean and std")
    layout = _layout(spec, options)
    order = (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
    depth, height, width = (spec.shape[axis] for axis in order)
    channels = _channels(spec, depth, options)
    for name in ("mean", "std"):
        if channels == "L" and len(getattr(options, name)) > 1:
            raise OptionError(f"{name}={getattr(options, name)!r} has 3 numbers, but input {spec} is grey; give one")
    return ImagePipeline(
        options=ImageOptions(
            layout=layout,
            size=_size(spec, (height, width), options),
            mean=options.mean,
            std=options.std,
            scale=options.scale,
            channels=channels,
            resize=options.resize,
            crop_fraction=options.crop_fraction,
        ),
        dtype=spec.dtype,
    )


def _layout(spec: InputSpec, options: ImageOptions) -> Literal["NCHW", "NHWC"]:
    if options.layout != "auto":
        return options.layout
    second, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    if second == last:
        raise DataError(
            f"input {spec}: the shape does not tell where the channels are; give ImageOptions(layout='NCHW') or 'NHWC'"
        )
    return "NCHW" if second else "NHWC"


def _channels(spec: InputSpec, depth: Dim, options: ImageOptions) -> Literal["RGB", "BGR", "L"]:
    if not isinstance(depth, int):
        if options.channels == "auto":
            raise DataError(
                f"input {spec}: the number of channels is dynamic; give ImageOptions(channels='RGB') or 'L'"
            )
        return options.channels
    if depth not in (1, 3):
        raise DataError(
            f"input {spec} has {depth} channels; pictures have 1 or 3: check ImageOptions(layout=...), or convert the "
            "pictures to arrays"
        )
    if options.channels == "auto":
        return "L" if depth == 1 else "RGB"
    if (options.channels == "L") != (depth == 1):
        raise OptionError(f"channels={options.channels!r} does not fit input {spec}, which has {depth}; leave it out")
    return options.channels


def _size(spec: InputSpec, dims: tuple[Dim, Dim], options: ImageOptions) -> tuple[int, int]:
    if options.size is None:
        if not all(isinstance(dim, int) for dim in dims):
            raise DataError(f"input {spec}: height or width is dynamic; give ImageOptions(size=(height, width))")
        return cast(tuple[int, int], dims)
    if any(isinstance(dim, int) and dim != size for dim, size in zip(dims, options.size, strict=True)):
        raise OptionError(f"size={options.size} does not fit input {spec}; leave it out, or give the model's size")
    return options.size


def _read(path: Path, mode: Literal["L", "RGB"]) -> Image.Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"reading '{path}' needs Pillow, which is not installed; run: pip install 'quantlab-onnx[images]'"
        ) from error
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"image '{path}' has more than 8 bits a channel (mode {image.mode}); allowed are 8-bit pictures: "
                    "convert it, or feed arrays"
                )
            transparent = image.mode == "P" and "transparency" in image.info
            return (image.convert("RGBA") if transparent else image).convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"image '{path}' cannot be read ({error}); repair it or take it out of the folder") from error


def _resized(image: Image.Image, options: ImageOptions) -> Image.Image:
    from PIL import Image

    height, width = cast(tuple[int, int], options.size)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if options.resize == "crop":
        zoom = options.crop_fraction * min(image.width / width, image.height / height)
        left, top = (image.width - zoom * width) / 2, (image.height - zoom * height) / 2
        box = (left, top, left + zoom * width, top + zoom * height)
        box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], image.width), min(box[3], image.height))
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
