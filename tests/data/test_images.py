"""Pictures become model inputs by the documented formula."""

import sys

import numpy as np
import pytest
from PIL import Image

from quantlab.data import ImageOptions, batches, image_pipeline
from quantlab.errors import DataError, OptionError
from tests.data.data_specs import signature

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NCHW, NHWC = ("N", 3, 8, 6), ("N", 8, 6, 3)


def pixels(seed, height=8, width=6, depth=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, depth), dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(["a.png", "b.bmp", "c/d.PNG"]):
        save(tmp_path / name, pixels(index))
    (tmp_path / "labels.txt").write_text("a cat")
    return tmp_path


def model(*dims, dtype="float32"):
    return signature(image=(dtype, *dims))


def fed(folder, model, options=None, **others):
    return [batch["image"] for batch in batches(folder, model, images=options, **others)]


def test_a_folder_of_pictures_feeds_scaled_pixels_in_the_order_of_paths(folder):
    stream = batches(folder, model(*NCHW))
    assert len(stream) == 3
    for index, batch in enumerate(stream):
        assert batch["image"].dtype == np.float32
        assert batch["image"].flags.c_contiguous
        want = (pixels(index) / 255).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(batch["image"], want, rtol=2**-23)


def test_mean_std_scale_channels_and_layout_follow_the_formula(folder):
    options = ImageOptions(mean=MEAN, std=STD, scale=1 / 128, channels="BGR")
    got = fed(folder, model(*NHWC), options)[1]
    want = np.empty((1, 8, 6, 3))
    for h in range(8):
        for w in range(6):
            for c in range(3):
                want[0, h, w, c] = (float(pixels(1)[h, w, 2 - c]) / 128 - MEAN[c]) / STD[c]
    np.testing.assert_array_equal(got, want.astype(np.float32))


def test_grey_input_gets_grey_pixels(tmp_path):
    save(tmp_path / "grey.png", pixels(0, depth=1))
    np.testing.assert_array_equal(
        fed(tmp_path, model(1, 1, 8, 6, dtype="uint8"))[0], pixels(0, depth=1).transpose(2, 0, 1)[None]
    )


def test_colour_becomes_grey_by_luma(folder):
    luma = pixels(0) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    got = fed(folder, model(1, 8, 6, 1, dtype="uint8"))[0][0, ..., 0]
    assert np.abs(got - luma).max() < 1


def test_uint8_inputs_take_raw_pixels(folder):
    np.testing.assert_array_equal(fed(folder, model(*NHWC, dtype="uint8"))[0], pixels(0)[None])


def test_stretching_is_bilinear(tmp_path):
    ramp = np.repeat(np.arange(0, 200, 50, dtype=np.uint8)[None, :, None], 2, axis=0).repeat(3, axis=2)
    save(tmp_path / "ramp.png", ramp)  # columns 0, 50, 100, 150
    got = fed(tmp_path, model("N", 3, 2, 8, dtype="uint8"))[0][0, 0, 0]
    centres = (np.arange(8) + 0.5) / 2 - 0.5
    want = np.interp(centres, np.arange(4), [0, 50, 100, 150])
    assert np.abs(got - want).max() <= 0.5


@pytest.mark.parametrize(
    ("shape", "fraction", "box"),
    [((8, 16), 1.0, np.s_[:, 4:12]), ((16, 8), 1.0, np.s_[4:12, :]), ((16, 16), 0.5, np.s_[4:12, 4:12])],
)
def test_cropping_takes_the_central_box(tmp_path, shape, fraction, box):
    array = pixels(3, *shape)
    save(tmp_path / "wide.png", array)
    options = ImageOptions(resize="crop", crop_fraction=fraction)
    got = fed(tmp_path, model("N", 8, 8, 3, dtype="uint8"), options)[0]
    np.testing.assert_array_equal(got[0], array[box])


def test_pictures_are_grouped_into_batches(folder):
    assert [len(batch) for batch in fed(folder, model(*NCHW), batch_size=2)] == [2, 1]
    assert [len(batch) for batch in fed(folder, model(*NCHW), batch_size=2, max_samples=2)] == [2]
    assert [len(batch) for batch in fed(folder, model(3, 3, 8, 6))] == [3]
    assert [len(batch) for batch in fed(folder, model(2, 3, 8, 6), max_samples=3)] == [2]
    with pytest.raises(DataError, match=r"takes exactly 2 samples at a time, and the last 1 of 3 do not fill a batch"):
        fed(folder, model(2, 3, 8, 6))


def test_one_picture_and_a_list_of_pictures(folder):
    assert len(fed(folder / "a.png", model(*NCHW))) == 1
    assert len(fed([folder / "b.bmp", str(folder / "a.png")], model(*NCHW))) == 2


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif", "tiff", "ppm"])
def test_other_formats_are_read(tmp_path, suffix):
    save(tmp_path / f"flat.{suffix}", np.full((8, 6, 3), 128, np.uint8))
    assert np.abs(fed(tmp_path, model(*NCHW))[0] * 255 - 128).max() <= 2


def test_palettes_and_transparency_are_converted(tmp_path):
    picture = Image.fromarray(pixels(0)).quantize(16)
    picture.info["transparency"] = bytes(range(16))
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        fed(tmp_path, model(*NHWC, dtype="uint8"))[0][0],
        np.asarray(Image.fromarray(pixels(0)).quantize(16).convert("RGB")),
    )


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_values_are_rounded_once_to_the_type_of_the_input(folder, dtype):
    got = fed(folder, model(*NHWC, dtype=dtype))[0]
    np.testing.assert_array_equal(got[0], (pixels(0).astype(np.float64) * (1 / 255)).astype(dtype))


@pytest.mark.parametrize(
    ("dims", "options", "said"),
    [
        (("N", "C", "H", "W"), {}, r"does not tell where the channels are; give ImageOptions\(layout='NCHW'\)"),
        (("N", 3, 8, 3), {}, r"input 'image' float32 \(N, 3, 8, 3\): the shape does not tell where the channels"),
        (("N", "C", 8, 6), {"layout": "NCHW"}, r"number of channels is dynamic; give ImageOptions\(channels='RGB'\)"),
        (("N", 3, "H", "W"), {}, r"height or width is dynamic; give ImageOptions\(size=\(height, width\)\)"),
        (("N", 4, 8, 6), {"layout": "NCHW"}, r"has 4 channels; pictures have 1 or 3: check ImageOptions\(layout"),
        (("N", 10), {}, r"input 'image' float32 \(N, 10\) takes no pictures: allowed are inputs of rank 4; convert"),
    ],
)
def test_what_the_model_leaves_open_must_be_given(dims, options, said):
    with pytest.raises(DataError, match=said):
        image_pipeline(model(*dims).inputs[0], ImageOptions(**options))


def test_given_options_settle_a_dynamic_input(folder):
    options = ImageOptions(layout="NHWC", channels="L", size=(4, 5))
    assert fed(folder, model("N", None, "H", "W"), options)[0].shape == (1, 4, 5, 1)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (("float32", *NCHW), {"size": (4, 4)}, r"size=\(4, 4\) does not fit input 'image' .* give the model's size"),
        (("float32", *NCHW), {"channels": "L"}, "channels='L' does not fit input 'image' .* which has 3; leave it out"),
        (
            ("float32", 1, 1, 8, 6),
            {"mean": MEAN},
            r"mean=\(0.485, 0.456, 0.406\) has 3 numbers, but .* is grey; give one",
        ),
        (("uint8", *NCHW), {"mean": MEAN}, "takes raw pixels: leave out scale, mean and std"),
    ],
)
def test_options_against_the_model_are_refused(spec, options, said):
    with pytest.raises(OptionError, match=said):
        image_pipeline(signature(image=spec).inputs[0], ImageOptions(**options))


def test_integer_inputs_take_no_pictures():
    with pytest.raises(DataError, match="allowed are float and uint8; convert the pictures to arrays"):
        image_pipeline(model(*NCHW, dtype="int64").inputs[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"layout": "NHCW"},
            r"layout='NHCW' is not allowed; did you mean .*'NCHW'.* choose from 'auto', 'NCHW', 'NHWC'",
        ),
        ({"channels": "XYZ"}, "channels='XYZ' is not allowed; choose from 'auto', 'RGB', 'BGR', 'L'"),
        ({"resize": "squeeze"}, "resize='squeeze' is not allowed; choose from 'stretch', 'crop'"),
        ({"size": (0, 4)}, r"size=\(0, 4\) is not allowed; give \(height, width\) in pixels"),
        ({"mean": (1.0, 2.0)}, r"mean=\(1.0, 2.0\) is not allowed; give one finite number, or one for each channel"),
        ({"std": (0.0,)}, r"std=\(0.0,\) is not allowed; pixels are divided by it, so give positive numbers"),
        ({"scale": 0.0}, "scale=0.0 is not allowed; give a positive number, such as 1/255"),
        ({"resize": "crop", "crop_fraction": 1.5}, r"crop_fraction=1.5 is not allowed; give a number in \(0, 1\]"),
        ({"crop_fraction": 0.5}, "crop_fraction has an effect with resize='crop' only"),
    ],
)
def test_impossible_options_are_refused(options, said):
    with pytest.raises(OptionError, match=said):
        ImageOptions(**options)


def test_broken_and_deep_pictures_are_named(tmp_path, folder):
    broken = folder / "b.bmp"
    broken.write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=rf"image '{broken}' cannot be read \(.*; repair it or take it out of the folder"
    ):
        fed(folder, model(*NCHW))
    cut = save(tmp_path / "cut" / "a.png", pixels(0, 64, 64))
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(DataError, match=rf"image '{cut}' cannot be read"):
        fed(cut, model(*NCHW))
    deep = tmp_path / "deep" / "a.png"
    save(deep, np.full((8, 6), 40000, np.uint16))
    with pytest.raises(DataError, match=rf"image '{deep}' has more than 8 bits a channel \(mode I;16.*\); allowed are"):
        fed(deep, model(*NCHW))


def test_pictures_need_a_model_with_one_input(folder):
    two = signature(image=("float32", *NCHW), size=("int64", 2))
    with pytest.raises(DataError, match=r"holds pictures for one input, and the model has 'image', 'size'; make dicts"):
        batches(folder, two)


def test_without_pillow_the_text_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        DataError, match=r"needs Pillow, which is not installed; run: pip install 'quantlab-onnx\[images\]'"
    ):
        fed(folder, model(*NCHW))
