"""Stacks are many samples in one array an input; a stack is cut along axis 0 into the batches a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantlab.data.checks import check_names
from quantlab.data.signature import InputSpec, Signature
from quantlab.data.sources import Column, Cut, Stacked
from quantlab.errors import DataError, OptionError


def stacked(
    columns: Mapping[str, Column],
    signature: Signature,
    name: str,
    *,
    batch_size: int | None = None,
    max_samples: int | None = None,
) -> Stacked:
    """Cut stacked samples into batches.

    An array of the model's rank is cut along axis 0: into the batch size the model fixes, else into `batch_size`, else
    into single samples. An array with one axis more holds whole batches: axis 0 counts them. A smaller last batch is
    fed when axis 0 of the model is dynamic, and refused when it is fixed: no sample is left out in silence.

    Args:
        columns: The stack of each input.
        signature: What the model wants.
        name: What the data is, for error texts.
        batch_size: Samples a batch, for inputs whose axis 0 is dynamic.
        max_samples: Rows to use at most; only full batches of them where the model fixes the batch size.

    Returns:
        A source with one item a batch.

    Raises:
        DataError: Wrong names or ranks, no rows, rows that do not fill a batch, or different numbers of batches.
        OptionError: `batch_size` contradicts the model.
    """
    check_names(columns, signature, name)
    check_batch_size(batch_size, signature)
    given = [spec for spec in signature if spec.name in columns]
    cuts = {spec.name: _cut(columns[spec.name], spec, name, batch_size or 1) for spec in given}
    if max_samples is not None:
        cuts = _limited(cuts, signature, name, max_samples)
    for spec in given:
        _check_full(cuts[spec.name], spec, name)
    cuts |= _labels_beside(cuts, columns, signature, name)
    counts = {key: cut.count for key, cut in cuts.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{key!r} makes {count}" for key, count in counts.items())
        raise DataError(
            f"{name}: the inputs have different numbers of batches ({said}); stack as many samples for each input"
        )
    return Stacked(name=name, cuts=cuts)


def _labels_beside(
    cuts: Mapping[str, Cut], columns: Mapping[str, Column], signature: Signature, name: str
) -> dict[str, Cut]:
    """Cut labels as the samples are cut: rows with the rows, whole batches with whole batches."""
    counted = next((spec.name for spec in signature.required if spec.rank and spec.leading is None), None)
    like = counted or next(iter(cuts))
    found = {}
    for label in signature.labels:
        shape, rows = columns[label].shape, columns[like].shape[0]
        if not shape or shape[0] != rows:
            raise DataError(
                f"labels {label!r}, {name}: got shape {shape}, and there are {rows} samples; give a row each"
            )
        found[label] = replace(cuts[like], column=columns[label])
    return found


def check_batch_size(batch_size: int | None, signature: Signature) -> None:
    """Refuse a batch size that contradicts the one the model fixes.

    Raises:
        OptionError: The two differ.
    """
    fixed = signature.batch_size
    if batch_size is not None and fixed is not None and batch_size != fixed:
        raise OptionError(
            f"batch_size={batch_size}, but the model takes exactly {fixed} samples at a time; leave batch_size out, "
            "or make the model's batch dimension dynamic"
        )


def _cut(column: Column, spec: InputSpec, name: str, batch_size: int) -> Cut:
    shape, place = column.shape, f"input {spec.name!r}, {name}"
    if len(shape) not in (spec.rank, spec.rank + 1) or not shape:
        raise DataError(
            f"{place}: got a stack of shape {shape}, allowed are samples {spec.shape_text} stacked along axis 0, or "
            f"whole batches with one more axis in front; change the number of axes to {max(spec.rank, 1)}"
        )
    if shape[0] == 0:
        raise DataError(f"no data: {place} has shape {shape}; give at least one sample")
    rows = 0 if len(shape) == spec.rank + 1 else spec.leading or batch_size
    return Cut(column=column, rows=rows, limit=shape[0])


def _limited(cuts: Mapping[str, Cut], signature: Signature, name: str, max_samples: int) -> dict[str, Cut]:
    counted = next((spec.name for spec in signature.required if spec.rank and spec.leading is None), None)
    if counted is not None and cuts[counted].rows:
        batches = -(-max_samples // cuts[counted].rows)
        last = max_samples - (batches - 1) * cuts[counted].rows
    else:
        size = (signature.batch_size or 1) if counted is None else cuts[counted].column.shape[1]
        batches, last = check_full_batch(max_samples, size, name), 0
    limited = {}
    for spec in (spec for spec in signature if spec.name in cuts):
        cut = cuts[spec.name]
        limit = batches * (cut.rows or 1)
        if last and cut.rows and spec.leading is None:
            limit += last - cut.rows
        limited[spec.name] = replace(cut, limit=min(cut.limit, limit))
    return limited


def check_full_batch(max_samples: int, size: int, name: str) -> int:
    """Count the full batches within a number of samples.

    Args:
        max_samples: Samples that may be used.
        size: Samples that go together.
        name: What the data is, for the error text.

    Returns:
        Number of batches, 1 or more.

    Raises:
        DataError: Not even one batch is full.
    """
    if max_samples < size:
        raise DataError(
            f"{name}: max_samples={max_samples}, but the samples come {size} at a time and a batch is never split; "
            f"allow at least {size}, or give smaller batches"
        )
    return max_samples // size


def _check_full(cut: Cut, spec: InputSpec, name: str) -> None:
    if cut.rows and spec.leading is not None:
        check_ragged(cut.limit, spec.leading, f"input {spec.name!r}, {name}")


def check_ragged(samples: int, size: int, place: str) -> None:
    """Refuse samples that do not fill the batches the model takes.

    Args:
        samples: Samples there are.
        size: Samples the model takes at a time.
        place: Opening words of the error text.

    Raises:
        DataError: The last batch is not full.
    """
    rest = samples % size
    if rest:
        fewer = f"max_samples={samples - rest}" if samples > rest else f"{size} samples"
        raise DataError(
            f"{place}: the model takes exactly {size} samples at a time, and the last {rest} of {samples} do not fill "
            f"a batch; give {fewer}, or make the model's batch dimension dynamic"
        )
