"""Readers that can be set to a part of their samples, and loaders as torch has them."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader

from quantlab.data import batches
from quantlab.errors import DataError
from tests.data.data_specs import Ranging, Reader, Tensor, ramp, signature, vector

ITEMS = [{"x": row[None]} for row in ramp(7, 3)]


def firsts(stream):
    return [batch["x"][0, 0] for batch in stream]


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 3, 1), (2, None, 1), (1, None, 2), (0, 6, 5), (9, None, 1)])
def test_a_slice_pulls_nothing_else(start, stop, step):
    reader = Ranging(ITEMS)
    stream = batches(reader, vector())
    assert len(stream) == 7
    assert firsts(stream.strided(start, stop, step)) == [index + 1 for index in range(7)[start:stop:step]]
    assert reader.pulled == list(range(7))[start:stop:step]


def test_it_can_be_read_again_without_rewind():
    stream = batches(Ranging(ITEMS), vector())
    assert stream.repeatable
    assert firsts(stream) == firsts(stream) == list(range(1, 8))
    assert firsts(batches(Ranging(ITEMS), vector(), max_samples=2)) == [1, 2]


def test_it_can_be_sent_to_another_process():
    assert firsts(pickle.loads(pickle.dumps(batches(Ranging(ITEMS), vector())))) == list(range(1, 8))


def test_several_threads_may_read_slices_with_gaps():
    stream = batches(Ranging([{"x": np.full((1, 3), index)} for index in range(400)]), signature(x=("int64", "N", 3)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: firsts(stream.strided(part, None, 4)), range(4)))
    assert found == [list(range(part, 400, 4)) for part in range(4)]


def test_it_is_read_as_onnxruntime_reads_it():
    """The loop of onnxruntime's quantize_static for CalibStridedMinMax, beside slices of the same reader."""
    theirs, ours = Ranging(ITEMS), Ranging(ITEMS)
    pulled = []
    for start in range(0, 7, 3):
        theirs.set_range(start_index=start, end_index=min(start + 3, 7))
        pulled.append([item["x"][0, 0] for item in iter(theirs.get_next, None)])
    stream = batches(ours, vector())
    ours.ranges.clear()
    assert [firsts(stream.strided(start, start + 3)) for start in range(0, 7, 3)] == pulled
    assert ours.ranges == theirs.ranges


def test_a_reader_that_hands_out_several_samples_at_a_time_is_read_to_its_end():
    class Batched(Ranging):
        def get_next(self):
            rows = [item["x"] for item in (super(Batched, self).get_next() for _ in range(2)) if item is not None]
            return {"x": np.concatenate(rows)} if rows else None

    stream = batches(Batched(ITEMS), vector())
    assert [len(batch["x"]) for batch in stream] == [2, 2, 2, 1]
    assert np.concatenate([batch["x"][:, 0] for batch in stream]).tolist() == list(range(1, 8))
    with pytest.raises(
        DataError, match=r"ends before sample 4, although its length is 7: after set_range\(start, end\)"
    ):
        list(stream.strided(1, 6))


def test_what_a_reader_inherits_from_onnxruntime_is_no_range():
    class Theirs(CalibrationDataReader):
        def __init__(self):
            self.left = iter(ITEMS)

        def get_next(self):
            return next(self.left, None)

        def __len__(self):
            return 7

    stream = batches(Theirs(), vector())
    assert not stream.repeatable
    assert firsts(stream.strided(1, None, 2)) == [2, 4, 6]


def test_a_range_that_gives_nothing():
    class Stuck(Reader):
        def __len__(self):
            return 3

        def set_range(self, start_index, end_index):
            pass

    stream = batches(Stuck(ITEMS), vector())
    list(stream)
    with pytest.raises(DataError, match=r"gave nothing after set_range\(0, 3\); give some samples, and let set_range"):
        list(stream)


class DataLoader:
    """What torch's DataLoader shows of itself: a dataset with numbers, collated batches, a new iterator each time."""

    def __init__(self, dataset, batch_size):
        self.dataset, self.batch_size = dataset, batch_size

    def __len__(self):
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.dataset), self.batch_size):
            rows = self.dataset[start : start + self.batch_size]
            yield {name: Tensor(np.stack([row[name] for row in rows])) for name in rows[0]}


def test_a_loader_of_collated_tensors():
    dataset = [{"image": np.full((2, 2), index, np.float32), "ids": np.full(3, index)} for index in range(5)]
    model = signature(ids=("int64", "N", 3), image=("float32", "N", 2, 2))
    stream = batches(DataLoader(dataset, 2), model)
    assert len(stream) == 3
    for _ in range(2):
        got = list(stream)
        assert [(batch["ids"].shape, batch["image"].shape) for batch in got] == [
            ((2, 3), (2, 2, 2)),
            ((2, 3), (2, 2, 2)),
            ((1, 3), (1, 2, 2)),
        ]
        assert np.concatenate([batch["ids"][:, 0] for batch in got]).tolist() == list(range(5))
    assert [batch["ids"][0, 0] for batch in stream.strided(0, None, 2)] == [0, 4]
