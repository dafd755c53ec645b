"""Data that cannot be used is refused with a text that says where, what was got, what is allowed and what to do."""

import re
import zipfile

import ml_dtypes
import numpy as np
import pytest

from quantlab.data import ImageOptions, batches
from quantlab.errors import DataError, OptionError
from tests.data.data_specs import Tensor, ramp, signature, vector

IMAGE = signature(x=("float32", "N", 3, 8, 6))
TEXT = signature(input_ids=("int64", "N", "T"), attention_mask=("int64", "N", "T"))
IDS = np.ones((1, 4), np.int64)
GOOD = ramp(1, 3)


class Broken:
    def numpy(self):
        raise RuntimeError("lives on another planet")


def with_nan(shape, at, value=np.nan):
    array = np.ones(shape)
    array[at] = value
    return array


REFUSED = {
    "unknown name": (
        [{"input_id": IDS, "attention_mask": IDS}],
        TEXT,
        "sample 0: 'input_id' is not an input of the model; did you mean 'input_ids'? rename it or leave it out. "
        "Allowed: 'input_ids', 'attention_mask'",
    ),
    "missing name": (
        [{"input_ids": IDS}],
        TEXT,
        "sample 0: input 'attention_mask' is missing; got 'input_ids'; "
        "give every input of the model: 'input_ids', 'attention_mask'",
    ),
    "missing stack": (
        {"input_ids": IDS},
        TEXT,
        "the data (dict): input 'attention_mask' is missing; got 'input_ids'; "
        "give every input of the model: 'input_ids', 'attention_mask'",
    ),
    "nothing in a dict": ([{}], vector(), "sample 0: input 'x' is missing; got no arrays; give every input"),
    "rank": (
        [GOOD, np.ones((1, 1, 3))],
        vector(),
        "input 'x', sample 1: got shape (1, 1, 3), allowed (N, 3); change the number of axes from 3 to 2",
    ),
    "no batch axis": (
        [np.ones((3, 8, 6))],
        IMAGE,
        "input 'x', sample 0: got shape (3, 8, 6), allowed (N, 3, 8, 6); add the batch axis with x[None]",
    ),
    "rank of a stack": (
        np.ones(3),
        IMAGE,
        "input 'x', the data (ndarray): got a stack of shape (3,), allowed are samples (N, 3, 8, 6) stacked along "
        "axis 0, or whole batches with one more axis in front; change the number of axes to 4",
    ),
    "fixed dim": (
        [GOOD, GOOD, np.ones((1, 4))],
        vector(),
        "input 'x', sample 2: got shape (1, 4), allowed (N, 3): axis 1 is 4 instead of 3; resize, pad or transpose",
    ),
    "channels last": (
        [np.ones((2, 8, 6, 3))],
        IMAGE,
        "input 'x', batch 0: got shape (2, 8, 6, 3), allowed (N, 3, 8, 6): axis 1 is 8 instead of 3; the channels seem "
        "to stand last: reorder with x.transpose(0, 3, 1, 2)",
    ),
    "channels second": (
        [np.ones((1, 3, 8, 6))],
        signature(x=("float32", "N", 8, 6, 3)),
        "the channels seem to stand second: reorder with x.transpose(0, 2, 3, 1)",
    ),
    "batch size": (
        [np.ones((2, 3))],
        vector((4, 3)),
        "input 'x', batch 0: got shape (2, 3), allowed (4, 3): axis 0 is 2 instead of 4; the model takes exactly 4 at "
        "a time: cut or stack the data accordingly",
    ),
    "raw pixels": (
        [np.zeros((1, 3, 8, 6), np.uint8)],
        IMAGE,
        "input 'x', sample 0: got dtype uint8, allowed float32; these look like raw pixels: scale them as in training, "
        "for instance x.astype('float32') / 255, or give a folder of images with ImageOptions",
    ),
    "integers for floats": (
        [np.zeros((1, 3), np.int64)],
        vector(),
        "got dtype int64, allowed float32; if the values are meant as they stand, convert them with x.astype('float32'",
    ),
    "floats for integers": ([np.ones((1, 3))], signature(x=("int64", "N", 3)), "got dtype float64, allowed int64; if"),
    "integers for bool": ([np.ones(2, int)], signature(x=("bool", "N")), "got dtype int64, allowed bool; if"),
    "strings for floats": ([np.array([["a"] * 3])], vector(), "got dtype str32, allowed float32; if the values"),
    "integer too large": (
        [np.array([[1, 2**31, 3]])],
        signature(x=("int32", "N", 3)),
        "input 'x', sample 0: got dtype int64, allowed int32, and the value 2147483648 does not fit; correct",
    ),
    "negative for unsigned": ([np.array([[-5]])], signature(x=("uint64", "N", 1)), "and the value -5 does not fit"),
    "unsigned too large": (
        [np.array([[2**63]], np.uint64)],
        signature(x=("int64", "N", 1)),
        "and the value 9223372036854775808 does not fit",
    ),
    "nan": (
        np.concatenate([ramp(2, 3), with_nan((1, 3), (0, 1))]),
        vector(),
        "input 'x', sample 2: the value at (0, 1) is nan, allowed are finite numbers; repair or leave out the sample",
    ),
    "inf in a batch": (
        [GOOD, with_nan((4, 3), (2, 0), -np.inf)],
        vector(),
        "input 'x', batch 1, its sample 2 of 4: the value at (2, 0) is -inf, allowed are finite numbers",
    ),
    "float16 overflow": (
        [np.full((1, 3), 1e5)],
        signature(x=("float16", "N", 3)),
        "input 'x', sample 0: the value 100000 at (0, 0) does not fit float16; scale the data down",
    ),
    "zero size": (
        [np.ones((1, 0))],
        signature(x=("float32", "N", "T")),
        "input 'x', sample 0: got shape (1, 0), allowed (N, T); the array is empty; leave empty samples out",
    ),
    "empty generator": (iter(()), vector(), "no data: the data (tuple_iterator) gave nothing in pass 1; give some"),
    "empty list": ([], vector(), "no data: the data (list) is empty; give some samples"),
    "empty stack": (
        np.ones((0, 3)),
        vector(),
        "no data: input 'x', the data (ndarray) has shape (0, 3); give at least",
    ),
    "ragged": (
        ramp(10, 3),
        vector((4, 3)),
        "input 'x', the data (ndarray): the model takes exactly 4 samples at a time, and the last 2 of 10 do not fill "
        "a batch; give max_samples=8, or make the model's batch dimension dynamic",
    ),
    "less than a batch": (ramp(2, 3), vector((4, 3)), "and the last 2 of 2 do not fill a batch; give 4 samples"),
    "different numbers": (
        {"input_ids": np.ones((3, 4), int), "attention_mask": np.ones((2, 4), int)},
        TEXT,
        "the data (dict): the inputs have different numbers of batches ('input_ids' makes 3, 'attention_mask' makes 2)",
    ),
    "one array for two inputs": (
        [IDS],
        TEXT,
        "sample 0: got one ndarray, but the model has 2 inputs; give dicts with the keys 'input_ids', 'attention_mask'",
    ),
    "short tuple": ([(IDS,)], TEXT, "sample 0: got 1 arrays for the 2 inputs 'input_ids', 'attention_mask'; give one"),
    "no array": (["x.npy", 3.0], vector(), "input 'x', sample 0: got str, allowed is a NumPy array or a tensor"),
    "broken tensor": (
        iter([{"x": Broken()}]),
        vector(),
        "input 'x', batch 0: Broken cannot be made a NumPy array (lives on another planet); convert it first",
    ),
    "nothing usable": (5, vector(), "the data (int) cannot be used; allowed are a path to .npz, .npy or a folder, an"),
    "no such path": ("nowhere/at/all.npz", vector(), "'nowhere/at/all.npz' does not exist; give the path of a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_data_is_named(case):
    data, model, said = REFUSED[case]
    with pytest.raises(DataError, match=re.escape(said)):
        list(batches(data, model))


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (np.array([[1.5]]), "float32"),
        (np.array([[1.5]], np.float16), "float32"),
        (np.array([[1.5]], np.float32), ml_dtypes.bfloat16),
        (np.array([[1.5]], ml_dtypes.bfloat16), "float32"),
        (np.array([[7]], np.int32), "int64"),
        (np.array([[7]], np.int64), "int32"),
        (np.array([[7]], np.uint8), "int8"),
        (np.array([[True]]), "int64"),
        (np.array([["word"]]), "O"),
    ],
)
def test_casts_that_keep_the_meaning_are_silent(given, want):
    (batch,) = batches(given, signature(x=(want, "N", 1)))
    assert batch["x"].dtype == np.dtype(want)
    assert batch["x"][0, 0] == given[0, 0]


def write(folder, name, data=b"not an array"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_files_that_cannot_be_read_are_named(tmp_path):
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    truncated = tmp_path / "truncated.npy"
    np.save(truncated, ramp(4, 3))
    truncated.write_bytes(truncated.read_bytes()[:-8])
    strange = tmp_path / "strange.npz"
    with zipfile.ZipFile(strange, "w") as archive:
        archive.writestr("x.npy", b"strange")
    for path in (write(tmp_path, "a.npy"), write(tmp_path, "b.npz"), pickled, truncated, strange):
        with pytest.raises(DataError, match=rf"file '{path}' cannot be read \(.*np\.savez.*: write it again"):
            list(batches(path, vector()))
        with pytest.raises(DataError, match=rf"file '{path}' cannot be read"):
            list(batches([path], vector()))


def test_a_damaged_archive_is_named_when_the_damage_is_met(tmp_path):
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 999, (500, 3)))
    data = bytearray(path.read_bytes())
    data[3000:3100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"file '{path}' cannot be read"):
        list(batches(path, signature(x=("int64", "N", 3))))


def test_a_file_is_named_instead_of_a_sample_number(tmp_path):
    np.save(tmp_path / "a.npy", ramp(1, 3))
    np.save(tmp_path / "b.npy", with_nan((2, 3), (1, 1)))
    with pytest.raises(
        DataError, match=rf"input 'x', file '{tmp_path}/b.npy', its sample 1 of 2: the value at \(1, 1\)"
    ):
        list(batches(tmp_path, vector()))


def test_paths_of_no_use_are_named(tmp_path):
    with pytest.raises(DataError, match=rf"no data: folder '{tmp_path}' has no files of a known kind; add some \(.npy"):
        batches(tmp_path, vector())
    other = write(tmp_path, "model.onnx")
    with pytest.raises(DataError, match=rf"file '{other}' is of no known kind; allowed are .npy, .npz, .bmp"):
        batches(other, vector())
    with pytest.raises(DataError, match=r"file 'gone.npy' does not exist; correct the path"):
        batches(["gone.npy"], vector())
    write(tmp_path, "a.npy")
    write(tmp_path, "a.png")
    with pytest.raises(DataError, match=rf"folder '{tmp_path}' holds 1 array files and 1 pictures; keep one kind"):
        batches(tmp_path, vector())


def test_an_npy_file_feeds_one_input_only(tmp_path):
    np.save(tmp_path / "a.npy", IDS)
    for data in (tmp_path / "a.npy", tmp_path):
        with pytest.raises(
            DataError, match=r"a.npy': an .npy file holds one array, and the model has 2 inputs; save an"
        ):
            list(batches(data, TEXT))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_samples": 0}, "max_samples=0 is not allowed; give a positive integer or leave it out"),
        ({"batch_size": True}, "batch_size=True is not allowed"),
        ({"images": ImageOptions()}, r"images= goes with picture files, and the data \(list\) has none; leave it out"),
        ({"batch_size": 2}, r"batch_size=2 cuts stacked arrays and groups pictures, but the data \(list\) gives whole"),
    ],
)
def test_options_that_do_not_go_with_the_data_are_refused(options, said):
    with pytest.raises(OptionError, match=said):
        batches([GOOD], vector(), **options)


def test_a_batch_size_against_the_model_is_refused():
    with pytest.raises(
        OptionError, match="batch_size=2, but the model takes exactly 4 samples at a time; leave batch_s"
    ):
        batches(ramp(4, 3), vector((4, 3)), batch_size=2)
    with pytest.raises(DataError, match="max_samples=3, but the samples come 4 at a time and a batch is never split"):
        batches(ramp(4, 3), vector((4, 3)), max_samples=3)


@pytest.mark.parametrize("cut", [(-1, None, 1), (0, -2, 1), (0, None, 0)])
def test_impossible_slices_are_refused(cut):
    with pytest.raises(OptionError, match=r"strided\(.*\) is not allowed; start and stop count from 0"):
        batches(Tensor(GOOD), vector()).strided(*cut)
