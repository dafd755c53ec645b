"""Batches are a stream of checked dicts from input name to array, made from whatever a person has.

Memory holds one batch at a time, and nothing is pulled from a source before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from quantlab.data.checks import check_batch
from quantlab.data.constant import ConstantWatch
from quantlab.data.images import ImageOptions
from quantlab.data.kinds import source_of
from quantlab.data.repeats import RepeatWatch
from quantlab.data.signature import Array, Signature
from quantlab.data.sources import Item, Source
from quantlab.data.stacks import check_full_batch
from quantlab.errors import OptionError

EVERYTHING = range(sys.maxsize)


class Batches:
    """A stream of batches, each checked against the model's signature when it is pulled.

    Invariants:
        * Every batch has exactly the signature's names, in its order, with its dtypes; arrays are not to be written to.
          Labels stand behind them.
        * Iterating again gives the data again, or raises `DataError` when the source can be read only once.
        * `len()` counts batches and raises `TypeError` when the number is not known, as Python's own iterables do.

    Attributes:
        signature: What the batches are checked against.
    """

    def __init__(
        self, source: Source, signature: Signature, *, pick: range = EVERYTHING, max_samples: int | None = None
    ) -> None:
        self.signature = signature
        self._source, self._pick, self._max_samples = source, pick, max_samples
        self._watched = False
        self._repeats = RepeatWatch()

    @property
    def repeatable(self) -> bool:
        """Whether a second pass over the data is possible."""
        return self._source.repeatable

    @property
    def concurrent(self) -> bool:
        """Whether several passes over the data may go on at once, in threads or processes."""
        return self._source.concurrent

    @property
    def count(self) -> int | None:
        """Number of batches, None when the source cannot tell before it is read."""
        return None if self._max_samples is not None else self._upper_bound()

    def __len__(self) -> int:
        count = self.count
        if count is None:
            raise TypeError(f"the number of batches in {self._source.name} is not known before they are read")
        return count

    def __length_hint__(self) -> int:
        """Guess the number of batches, for progress bars: one sample a batch when only the samples are limited."""
        bounds = [bound for bound in (self._upper_bound(), self._max_samples) if bound is not None]
        return min(bounds, default=0)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[dict[str, Array]]:
        if not self._pick:
            return iter(())
        pick = self._pick if self._max_samples is None else range(self._pick[-1] + 1)
        return self._checked(self._limited(self._source.read(pick)))

    def strided(self, start: int = 0, stop: int | None = None, step: int = 1) -> Batches:
        """Take a slice, as `list(batches)[start:stop:step]` would give it.

        Arrays and files that are not in the slice are never read; a stream is pulled through up to the last batch.

        Args:
            start: First batch.
            stop: First batch not taken, None for the end.
            step: Distance between batches.

        Returns:
            Batches over the same source. A slice behind the end is empty.

        Raises:
            OptionError: A negative number, or a step below 1.

        Example:
            >>> import numpy as np
            >>> from quantlab.data import InputSpec, Signature
            >>> model = Signature(inputs=(InputSpec(name="x", dtype=np.dtype("float32"), shape=("N",)),))
            >>> [b["x"].item() for b in batches(np.arange(6, dtype=np.float32), model).strided(1, None, 2)]
            [1.0, 3.0, 5.0]
        """
        if start < 0 or (stop is not None and stop < 0) or step < 1:
            raise OptionError(
                f"strided({start}, {stop}, {step}) is not allowed; start and stop count from 0 and step is 1 or more"
            )
        sliced = Batches(self._source, self.signature, pick=self._pick[start:stop:step], max_samples=self._max_samples)
        sliced._watched, sliced._repeats = self._watched, self._repeats
        return sliced

    def _upper_bound(self) -> int | None:
        if self._source.count is None:
            return None
        return len(range(self._pick.start, min(self._pick.stop, self._source.count), self._pick.step))

    def _limited(self, items: Iterator[Item]) -> Iterator[Item]:
        if self._max_samples is None:
            yield from items
            return
        taken = 0
        for item in items:
            rows = self.signature.samples_in(item.arrays)
            if taken == 0:
                check_full_batch(self._max_samples, rows, self._source.name)
            taken += rows
            if taken > self._max_samples:
                return
            if item.index in self._pick:
                yield item
            if taken == self._max_samples:
                return

    def _checked(self, items: Iterator[Item]) -> Iterator[dict[str, Array]]:
        watch = None if self._watched else ConstantWatch()
        self._watched = True
        first = True
        for item in items:
            batch = check_batch(item.arrays, self.signature, item.where(self.signature))
            if first and self.repeatable:
                self._repeats.begin(item.index, batch, self._source.name)
            first = False
            if watch is not None:
                inputs = {name: array for name, array in batch.items() if name not in self.signature.labels}
                watch.see(inputs, self.signature.samples_in(batch))
            yield batch
        if watch is not None:
            watch.finish()


def batches(
    data: object,
    signature: Signature,
    *,
    max_samples: int | None = None,
    batch_size: int | None = None,
    images: ImageOptions | None = None,
    labels: Iterable[str] = (),
) -> Batches:
    """Turn data into a stream of batches for a model.

    Args:
        data: One of

            * a path to an .npz file (keys are input names, samples stacked along axis 0) or an .npy file (one input);
            * a folder of .npz and .npy files, each one batch or sample; or of pictures; nested folders are searched,
              and files are taken in the order of their paths;
            * a list of such files;
            * a dict of stacked arrays, or one stacked array for a model with one input;
            * an iterable of dicts, of tuples in the order of the inputs, or of arrays, each one batch; torch tensors
              and loaders are welcome; a function that returns such an iterable is called for every pass;
            * a reader with `get_next()`, which returns a dict, and None at the end; `rewind()` is called before
              another pass. One with a length and `set_range(start, end)`, as onnxruntime's strided calibration uses it,
              is read by number.
        signature: What the model wants.
        max_samples: Use at most so many samples (rows along axis 0). Stacks and pictures are cut to the number; the
            batches of a stream or of files are taken whole, as long as they stay within it.
        batch_size: Samples a batch for stacks and pictures when the model's batch dimension is dynamic; 1 by default.
            Where the model fixes the number, that is used, and a rest that does not fill a batch is refused.
        images: How pictures become inputs.
        labels: Names of arrays in the data that are no inputs, such as the classes that a model should find. They come
            with each batch as they are; a loader of tuples gives them behind the inputs.

    Returns:
        The stream. Stacks and files are looked at here; values are checked when they are pulled.

    Raises:
        DataError: The data cannot be used; the text names what was found and what to do.
        OptionError: An option has an impossible value, or does not go with this kind of data.

    Example:
        >>> import numpy as np
        >>> from quantlab.data import InputSpec, Signature
        >>> model = Signature(inputs=(InputSpec(name="x", dtype=np.dtype("float32"), shape=("N", 3)),))
        >>> stream = batches(np.ones((5, 3)) * np.arange(5)[:, None], model, batch_size=2)
        >>> len(stream), [batch["x"].shape for batch in stream]
        (3, [(2, 3), (2, 3), (1, 3)])
    """
    for name, number in (("max_samples", max_samples), ("batch_size", batch_size)):
        if number is not None and (isinstance(number, bool) or number < 1):
            raise OptionError(f"{name}={number!r} is not allowed; give a positive integer or leave it out")
    signature = signature.with_labels((*signature.labels, *labels))
    source, left = source_of(data, signature, max_samples=max_samples, batch_size=batch_size, images=images)
    return Batches(source, signature, max_samples=left)
