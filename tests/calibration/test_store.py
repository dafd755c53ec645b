"""Statistics files: what is read equals what was written, and equal statistics make equal bytes."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.calibration import (
    BatchEnds,
    ExponentialAverage,
    Histogram,
    JoinedHistogram,
    Magnitudes,
    MinMax,
    MovingAverage,
    OnnxruntimeHistogram,
    PerChannelMinMax,
    load_statistics,
    restore,
    save_statistics,
    statistics,
)
from quantlab.errors import DataError, OptionError

EMPTY = (
    MinMax(),
    Histogram(),
    Histogram(max_bins=8),
    MovingAverage(),
    ExponentialAverage(),
    ExponentialAverage(constant=0.3),
    PerChannelMinMax(axis=0),
    PerChannelMinMax(axis=-1),
    OnnxruntimeHistogram(bins=4),
    OnnxruntimeHistogram(bins=5, absolute=True),
    BatchEnds(),
    BatchEnds(axis=1),
    Magnitudes(),
    JoinedHistogram.after(MinMax().update(np.array([-250.0, 250.0])), bins=4),
    JoinedHistogram.after(Magnitudes().update(np.array([-250.0, 0.0])), bins=5),
)
# Neither so small nor so large that onnxruntime's histogram needs impossible bins.
values = st.integers(-2000, 2000).map(lambda k: k / 8) | st.sampled_from([np.nan, np.inf, -np.inf, -0.0])
dtypes = st.sampled_from([np.float16, np.float32, np.float64])
streams = dtypes.flatmap(lambda d: st.lists(hnp.arrays(d, (2, 3), elements=values), max_size=4))


def fill(empty, arrays):
    for x in arrays:
        empty = empty.update(x)
    return empty


any_statistic = st.builds(fill, st.sampled_from(EMPTY), streams)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
# Lone surrogates included: a name in a broken model may be any text.
names = st.text(st.characters(exclude_categories=()))


def packed(seen, meta=None):
    file = io.BytesIO()
    save_statistics(file, seen, meta)
    return file.getvalue()


def loaded(content):
    return load_statistics(io.BytesIO(content))


def example():
    rng = np.random.default_rng(0)
    return {
        "x": Histogram(max_bins=16).update(rng.normal(size=100)),
        "y/ä": MovingAverage().update(np.array([1.5, -2.25])),
        "z": PerChannelMinMax(axis=1).update(np.array([[1.0, 2.0, np.nan]])),
    }


def test_every_kind_is_tested():
    assert {empty.kind for empty in EMPTY} == set(statistics)
    assert all(statistics[kind].kind == kind for kind in statistics)


@given(any_statistic)
def test_a_statistic_is_its_arrays(seen):
    arrays = seen.arrays()
    assert all(a.dtype in (np.int64, np.float64, np.uint8) and a.ndim == 1 for a in arrays.values())
    again = restore(seen.kind, arrays)
    assert type(again) is type(seen)
    assert again == seen
    assert hash(again) == hash(seen)
    assert {name: a.tobytes() for name, a in again.arrays().items()} == {n: a.tobytes() for n, a in arrays.items()}
    # And it goes on as the original would.
    typed = {"onnxruntime_histogram": "edges", "onnxruntime_joined": "edges", "batch_ends": "los"}.get(seen.kind)
    more = np.full((2, 3), 7.5, getattr(seen, typed).dtype if typed else float)
    assert again.update(more) == seen.update(more)


@given(st.dictionaries(names, any_statistic, max_size=4), st.dictionaries(st.text(), json_values, max_size=3))
def test_round_trip(seen, meta):
    content = packed(seen, meta)
    stored = loaded(content)
    assert stored.statistics == seen
    assert list(stored.statistics) == sorted(seen)
    assert stored.meta == meta
    assert packed(dict(reversed(seen.items())), meta) == content
    assert packed(stored.statistics, stored.meta) == content


def test_a_path_is_as_good_as_a_file(tmp_path):
    path = tmp_path / "state.npz"
    save_statistics(path, example(), {"samples": 3})
    assert path.read_bytes() == packed(example(), {"samples": 3})
    assert load_statistics(str(path)).statistics == example()
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["0/counts"].tolist() == [100, 0, 0]


def test_the_bytes_are_these_on_every_machine():
    # Made once; another number means that files of the same version differ.
    seen = {"x": MinMax().update(np.array([1.0, -2.5])), "h": Histogram(max_bins=8).update(np.array([0.0, 0.5, 2.5]))}
    digest = hashlib.sha256(packed(seen, {"samples": 2})).hexdigest()
    assert digest == "348241becb2c7f4da4b4def67e5a3ee72eeff517c79ac7a06c2aabb1f6a8be3f"


@given(st.data())
def test_a_truncated_file_is_refused(data):
    content = packed(example())
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError, match=r"^statistics file '.*(truncated, corrupt or not one of quantlab's)"):
        loaded(content[:cut])


@given(st.data())
def test_a_flipped_bit_is_refused_or_harmless(data):
    content = bytearray(packed(example(), {"samples": 3}))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        stored = loaded(bytes(content))
    except DataError:
        return
    # Dates and the like are not part of the content.
    assert (stored.statistics, stored.meta) == (example(), {"samples": 3})


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(content):
    with pytest.raises(DataError, match="truncated, corrupt or not one of quantlab's"):
        loaded(content)


def rewritten(change=None, **members):
    """A statistics file whose header or arrays were changed after it was made."""
    source = zipfile.ZipFile(io.BytesIO(packed(example())))
    arrays = {name: np.lib.format.read_array(io.BytesIO(source.read(name))) for name in source.namelist()}
    header = json.loads(arrays.pop("header.npy").tobytes())
    (change or (lambda _: None))(header)
    arrays |= {name.replace("__", "/") + ".npy": array for name, array in members.items()}
    whole = io.BytesIO()
    np.savez(
        whole,
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        **{name.removesuffix(".npy"): array for name, array in arrays.items() if array is not None},
    )
    return whole.getvalue()


def of_kind(kind):
    return lambda header: header["tensors"][0].update(kind=kind)


LONG = np.array([1] * 300, np.uint8)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            lambda: rewritten(lambda h: h.update(version=2)),
            r"has format version 2, and this quantlab reads version 1; mea",
        ),
        (lambda: rewritten(lambda h: h.update(format="other")), r"holds 'other', not 'quantlab statistics'"),
        (
            lambda: rewritten(of_kind("kurtosis")),
            r"'x' has a statistic of the unknown kind 'kurtosis' \(known: .*minmax",
        ),
        (
            lambda: rewritten(of_kind("minmax")),
            r"'x': a 'minmax' statistic has arrays \['counts', 'ends'\], got \['bins",
        ),
        (lambda: rewritten(lambda h: h["tensors"].pop()), r"arrays of 1 tensors more than its header names"),
        (lambda: rewritten(lambda h: h["tensors"].append({"name": "w", "kind": "minmax"})), r"'w': .*got \[\]"),
        (lambda: rewritten(lambda h: h.pop("meta")), r"not one of quantlab's \(KeyError: 'meta'\)"),
        (lambda: rewritten(lambda h: h.update(tensors=None)), r"not one of quantlab's \(TypeError"),
        (
            lambda: rewritten(**{"0__ends": np.zeros(2, np.float32)}),
            r"'x': array 'ends' .* must be float64 of shape \(2,\)",
        ),
        (
            lambda: rewritten(**{"0__ends": np.array([3.0, -3.0])}),
            r"'x': .* cannot have the ends \[3.0, -3.0\]; what it",
        ),
        (lambda: rewritten(**{"0__ends": np.array([-0.0, 3.0])}), r"'x': .* cannot have the ends \[-0.0, 3.0\]"),
        (
            lambda: rewritten(**{"0__counts": np.array([-1, 0, 0])}),
            r"'x': .* of -1 finite, 0 NaN and 0 infinite elements",
        ),
        (
            lambda: rewritten(**{"0__lattice": np.array([16, 0, 0])}),
            r"'x': .* bins of width 2\*\*0 from bin 0, at most 16",
        ),
        (
            lambda: rewritten(**{"0__lattice": np.array([2, 0, 0])}),
            r"'x': .* bins of width 2\*\*0 from bin 0, at most 2, ",
        ),
        (
            lambda: rewritten(**{"0__counts": np.array([99, 0, 0])}),
            r"'x': the bins .* of 99 values do not add up to that",
        ),
        (
            lambda: rewritten(**{"1__batches": np.array([5])}),
            r"'y/ä': the sums of .* of 5 batches do not lie within \[-2",
        ),
        (
            lambda: rewritten(**{"1__hi_sum": LONG}),
            r"'y/ä': the sums of a 'moving_average' statistic of 1 batches do not",
        ),
        (
            lambda: rewritten(**{"2__los": np.zeros(3)}),
            r"'z': a 'per_channel_minmax' statistic of .* cannot have the ends",
        ),
        (
            lambda: rewritten(**{"2__los": np.zeros(2)}),
            r"'z': array 'finite' .* must be int64 of shape \(2,\), got int64 of",
        ),
        (lambda: rewritten(**{"2__los": None, "2__his": None}), r"'z': a 'per_channel_minmax' statistic has arrays"),
    ],
)
def test_what_makes_no_sense_is_refused(content, text):
    with pytest.raises(DataError, match=text):
        loaded(content())


def test_an_average_outside_its_limits_is_refused():
    arrays = ExponentialAverage().update(np.array([-1.0, 2.0])).arrays()
    for bad in ([2.0, -1.0, 2.0], [0.01, -2.0, 2.0], [0.01, 1.0, 0.0], [np.nan, -1.0, 2.0]):
        with pytest.raises(
            DataError, match=r"^a 'exponential_average' statistic with the ends \[-1.0, 2.0\] cannot have"
        ):
            restore("exponential_average", {**arrays, "averages": np.array(bad)})


def test_pickled_objects_are_never_read():
    whole = io.BytesIO()
    np.savez(whole, header=np.array([{"format": "quantlab statistics"}], object))
    with pytest.raises(DataError, match=r"not one of quantlab's \(ValueError: Object arrays cannot be loaded"):
        loaded(whole.getvalue())


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"^statistics file '.*missing.npz' cannot be read: No such file or directory$"):
        load_statistics(tmp_path / "missing.npz")
    with pytest.raises(DataError, match=r"^statistics file '.*' cannot be written: "):
        save_statistics(Path(tmp_path) / "no" / "folder.npz", {})


@pytest.mark.parametrize(
    "meta", [{"a": np.zeros(2)}, {"a": float("nan")}, {"a": object()}], ids=["an array", "no number", "any object"]
)
def test_meta_must_be_json(meta):
    with pytest.raises(OptionError, match=r"^meta must hold plain JSON values only: "):
        packed({}, meta)


def test_an_unknown_kind_is_refused():
    with pytest.raises(OptionError, match=r"^unknown statistic 'minmaxx'; did you mean 'minmax'"):
        restore("minmaxx", {})
