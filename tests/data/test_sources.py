"""Every kind of source gives the same batches."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.data import Batches, batches
from quantlab.errors import DataError, QuantlabWarning
from tests.data.data_specs import Reader, Rewinding, Tensor, ramp, signature, vector

SAMPLES = ramp(5, 3)
ITEMS = [row[None] for row in SAMPLES]


class Dataset:
    """Has numbers but no iterator, as map-style datasets."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"x": ITEMS[index]}  # raises no IndexError of its own accord beyond a list's


class Loader:
    """Can be iterated again and again."""

    def __iter__(self):
        return ([Tensor(item)] for item in ITEMS)

    def __len__(self):
        return 5


def npz(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def packed(folder):
    np.savez_compressed(folder / "packed.npz", x=SAMPLES)
    return str(folder / "packed.npz")


def npy(folder):
    np.save(folder / "data.npy", SAMPLES)
    return folder / "data.npy"


def folder_of(folder, save, shape=(1, 3)):
    (folder / "many" / "deep").mkdir(parents=True)
    for index, row in enumerate(SAMPLES):
        save(folder / "many" / ("deep" if index > 2 else "") / f"{index}", row.reshape(shape))
    (folder / "many" / "notes.txt").write_text("not data")
    (folder / "many" / "._0.npy").write_text("left behind by a file manager")
    return folder / "many"


SOURCES = {
    "npz": lambda tmp: npz(tmp, x=SAMPLES),
    "npz compressed": packed,
    "npz Fortran order": lambda tmp: npz(tmp, x=np.asfortranarray(SAMPLES)),
    "npz of whole batches": lambda tmp: npz(tmp, x=SAMPLES[:, None]),
    "npy": npy,
    "folder of npy": lambda tmp: folder_of(tmp, np.save),
    "folder of single samples": lambda tmp: folder_of(tmp, np.save, shape=3),
    "folder of npz": lambda tmp: folder_of(tmp, lambda path, row: np.savez(path, x=row)),
    "list of files": lambda tmp: sorted(map(str, folder_of(tmp, np.save).rglob("[0-9].npy"))),
    "array": lambda tmp: SAMPLES,
    "float64": lambda tmp: SAMPLES.astype(np.float64),
    "big endian": lambda tmp: SAMPLES.astype(">f4"),
    "tensor": lambda tmp: Tensor(SAMPLES),
    "whole batches": lambda tmp: SAMPLES[:, None],
    "dict": lambda tmp: {"x": SAMPLES},
    "dict of tensors": lambda tmp: {"x": Tensor(SAMPLES)},
    "list of dicts": lambda tmp: [{"x": item} for item in ITEMS],
    "list of arrays": lambda tmp: ITEMS,
    "tuples": lambda tmp: [(item,) for item in ITEMS],
    "generator": lambda tmp: ({"x": item} for item in ITEMS),
    "generator function": lambda tmp: lambda: ({"x": Tensor(item)} for item in ITEMS),
    "loader": lambda tmp: Loader(),
    "dataset": lambda tmp: Dataset(),
    "reader": lambda tmp: Reader([{"x": item} for item in ITEMS]),
    "rewinding reader": lambda tmp: Rewinding([{"x": item} for item in ITEMS]),
    "reader of arrays": lambda tmp: Rewinding(ITEMS),
    "batches": lambda tmp: batches(ITEMS, vector()),
}
ONE_SHOT = {"generator", "reader"}
UNCOUNTED = {"generator", "generator function", "reader", "rewinding reader", "reader of arrays"}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_batches(kind, tmp_path):
    stream = batches(SOURCES[kind](tmp_path), vector())
    assert stream.repeatable == (kind not in ONE_SHOT)
    if kind in UNCOUNTED:
        assert stream.count is None
        with pytest.raises(TypeError, match="not known before they are read"):
            len(stream)
    else:
        assert len(stream) == 5
    for _ in range(2 if stream.repeatable else 1):
        got = list(stream)
        assert [batch["x"].tolist() for batch in got] == [item.tolist() for item in ITEMS]
        assert {(batch["x"].dtype, batch["x"].dtype.isnative) for batch in got} == {(np.dtype("float32"), True)}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("start", "stop", "step"), [(0, 3, 1), (1, None, 2), (4, 5, 1), (2, 2, 1), (9, None, 1)])
def test_every_source_can_be_sliced(kind, start, stop, step, tmp_path):
    stream = batches(SOURCES[kind](tmp_path), vector()).strided(start, stop, step)
    assert [batch["x"][0, 0] for batch in stream] == [item[0, 0] for item in ITEMS[start:stop:step]]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_can_be_limited(kind, tmp_path):
    stream = batches(SOURCES[kind](tmp_path), vector(), max_samples=3)
    assert [batch["x"][0, 0] for batch in stream] == [1, 2, 3]


@pytest.mark.parametrize("kind", sorted(ONE_SHOT))
def test_one_shot_sources_tell_how_to_become_repeatable(kind, tmp_path):
    stream = batches(SOURCES[kind](tmp_path), vector())
    list(stream)
    cure = {"generator": "give a list, or the function", "reader": r"give the reader a method rewind\(\)"}[kind]
    with pytest.raises(DataError, match=rf"can be read only once, and a second pass .* was asked for; {cure}"):
        iter(stream)


def test_a_slice_of_a_one_shot_source_shares_its_one_pass():
    stream = batches(iter(ITEMS), vector())
    list(stream.strided(0, 2))
    with pytest.raises(DataError, match="only once"):
        iter(stream)


def test_a_generator_is_pulled_no_further_than_needed():
    pulled = []

    def endless():
        for index in range(10**6):
            pulled.append(index)
            yield {"x": np.full((1, 3), index, np.float32)}

    assert len(list(batches(endless(), vector(), max_samples=3))) == 3
    assert pulled == [0, 1, 2]
    pulled.clear()
    assert len(list(batches(endless(), vector()).strided(1, 6, 3))) == 2
    assert pulled == [0, 1, 2, 3, 4]
    pulled.clear()
    stream = iter(batches(endless(), vector()))
    assert pulled == []
    next(stream)
    assert pulled == [0]
    pulled.clear()
    assert len(list(batches(endless(), vector(), max_samples=4).strided(0, None, 2))) == 2
    assert pulled == [0, 1, 2, 3]


def test_files_outside_the_slice_are_not_opened(tmp_path):
    folder = folder_of(tmp_path, np.save)
    (folder / "deep" / "3.npy").write_bytes(b"broken")
    assert len(list(batches(folder, vector()).strided(0, None, 2))) == 3


@settings(deadline=None, max_examples=150)
@given(
    count=st.integers(1, 12),
    cuts=st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 14), st.integers(1, 4)), max_size=3),
    limit=st.none() | st.integers(1, 15),
    stream=st.booleans(),
)
def test_slices_of_slices_are_those_of_a_list(count, cuts, limit, stream):
    items = [np.full((1, 3), index + 1, np.float32) for index in range(count)]
    got = batches((item for item in items) if stream else np.concatenate(items), vector(), max_samples=limit)
    want = items[:limit]
    for start, stop, step in cuts:
        got, want = got.strided(start, stop, step), want[start:stop:step]
    if not stream:
        assert len(got) == len(want)
    assert [batch["x"][0, 0] for batch in got] == [item[0, 0] for item in want]


@settings(deadline=None)
@given(count=st.integers(1, 20), size=st.integers(1, 7), limit=st.none() | st.integers(1, 25))
def test_a_dynamic_batch_axis_takes_every_row_once(count, size, limit):
    stream = batches(ramp(count, 3), vector(), batch_size=size, max_samples=limit)
    got = list(stream)
    rows = list(range(1, min(count, limit or count) + 1))
    assert len(stream) == len(got)
    assert np.concatenate([batch["x"][:, 0] for batch in got]).tolist() == rows
    assert {len(batch["x"]) for batch in got[:-1]} <= {size}


def test_a_fixed_batch_axis_cuts_stacks_into_its_size():
    got = list(batches(ramp(12, 3), vector((4, 3))))
    assert [batch["x"][:, 0].tolist() for batch in got] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert len(batches(ramp(12, 3), vector((4, 3)), max_samples=9)) == 2
    assert len(batches(ramp(10, 3), vector((4, 3)), max_samples=8)) == 2
    assert len(batches(ramp(12, 3), vector((4, 3)), batch_size=4)) == 3


def test_inputs_are_cut_each_by_its_own_leading_axis():
    model = signature(image=("float32", "N", 2), anchors=("float32", 3, 4), scale=("float32",), ids=("int64", 1, "T"))
    data = {"image": ramp(4, 2), "anchors": ramp(12, 4), "scale": ramp(4), "ids": np.ones((4, 1, 5), np.int32)}
    got = list(batches(data, model, max_samples=2))
    assert [list(batch) for batch in got] == [["image", "anchors", "scale", "ids"]] * 2
    assert [batch["anchors"][:, 0].tolist() for batch in got] == [[1, 2, 3], [4, 5, 6]]
    assert [(batch["scale"].shape, float(batch["scale"])) for batch in got] == [((), 1), ((), 2)]
    assert {(batch["ids"].shape, batch["ids"].dtype) for batch in got} == {((1, 5), np.dtype("int64"))}


def test_max_samples_takes_the_batches_of_a_stream_whole():
    items = [ramp(4, 3), ramp(4, 3) + 4, ramp(4, 3) + 8]
    assert len(list(batches(items, vector(), max_samples=8))) == 2
    assert len(list(batches(items, vector(), max_samples=11))) == 2
    with pytest.raises(DataError, match=r"max_samples=3, but the samples come 4 at a time .* allow at least 4"):
        list(batches(items, vector(), max_samples=3))


def test_max_samples_of_whole_batches_stacked():
    assert len(batches(np.stack([ramp(4, 3)] * 3), vector(), max_samples=9)) == 2


def test_progress_bars_get_a_guess_when_the_number_is_not_known():
    endless = ({"x": item} for item in itertools.cycle(ITEMS))
    assert batches(endless, vector(), max_samples=7).__length_hint__() == 7
    assert batches(ITEMS, vector(), max_samples=7).__length_hint__() == 5
    assert bool(batches(endless, vector()))


def test_npz_rows_are_read_without_unpacking_the_whole(tmp_path, monkeypatch):
    path = packed(tmp_path)
    monkeypatch.setattr(np, "load", lambda *args, **options: pytest.fail("reads the whole array"))
    assert [batch["x"][0, 0] for batch in batches(path, vector()).strided(3)] == [4, 5]


def test_npy_is_mapped_not_read(tmp_path):
    stream = batches(npy(tmp_path), vector())
    assert not next(iter(stream))["x"].flags.owndata


def test_bfloat16_survives_numpy_files(tmp_path):
    path = npz(tmp_path, x=SAMPLES.astype(ml_dtypes.bfloat16))
    got = list(batches(path, signature(x=(ml_dtypes.bfloat16, "N", 3))))
    assert [float(batch["x"][0, 0]) for batch in got] == [1, 2, 3, 4, 5]


def test_labels_of_a_loader_are_ignored_with_a_warning():
    loader = [(item, np.array([index])) for index, item in enumerate(ITEMS)]
    with pytest.warns(QuantlabWarning, match=r"gives 2 arrays at a time .* used as 'x', the others \(labels\?\)"):
        assert len(list(batches(loader, vector()))) == 5


def test_tuples_feed_the_inputs_in_order():
    model = signature(a=("float32", 1), b=("int64", 1))
    stream = batches([(np.ones(1), np.array([index])) for index in range(3)], model)
    assert [[float(x[0]) for x in batch.values()] for batch in stream] == [[1, 0], [1, 1], [1, 2]]


def test_onnxruntime_reader_is_accepted():
    from onnxruntime.quantization import CalibrationDataReader

    class Theirs(CalibrationDataReader):
        def __init__(self):
            self.left = iter(ITEMS)

        def get_next(self):
            return next(({"x": item} for item in self.left), None)

    assert len(list(batches(Theirs(), vector()))) == 5


def test_a_rewind_that_does_not_rewind_is_detected():
    class Stuck(Reader):
        def rewind(self):
            pass

    stream = batches(Stuck(ITEMS), vector())
    list(stream)
    with pytest.raises(DataError, match=r"gave nothing in pass 2; its rewind\(\) has to start again"):
        list(stream)


def test_passes_of_different_length_draw_a_warning():
    counts = iter([5, 4])
    stream = batches(lambda: iter(ITEMS[: next(counts)]), vector())
    list(stream)
    with pytest.warns(QuantlabWarning, match="gave 5 batches in one pass and 4 in another"):
        list(stream)


def test_a_wrong_length_claim_loses_no_data():
    class Understating(Rewinding):
        def __len__(self):
            return 2

    stream = batches(Understating(ITEMS), vector())
    assert (len(stream), len(list(stream))) == (2, 5)


def test_batches_is_what_batches_returns():
    assert isinstance(batches(SAMPLES, vector()), Batches)
