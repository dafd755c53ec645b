"""Where ranges come from on the command line: samples, statistics that were kept, or ranges that were kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.errors import OptionError

if TYPE_CHECKING:
    import onnx

    from quantlab.calibration import RangeTable
    from quantlab.plan import Recipe


def check_sources(
    sources: Mapping[str, Path | None], about_data: Mapping[str, object], *, rule: str | None = None, needed: bool
) -> None:
    """Refuse options that contradict each other, before any file is read.

    Args:
        sources: Name of an option to the file it names, or None where it was not given; `--data` among them.
        about_data: Name of an option that has no effect without samples to what was given for it, or None.
        rule: The range rule that was asked for, or None; it has no effect on ranges.
        needed: Whether one of the sources is needed.

    Raises:
        OptionError: There is more than one source, or none, or an option without effect.
    """
    given = [name for name, path in sources.items() if path is not None]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} exclude each other: give one of them")
    if needed and not given:
        *most, last = sources
        raise OptionError(f"nothing tells the ranges: give {', '.join(most)} or {last}")
    if not given or given == ["--data"]:
        return
    for name, value in about_data.items():
        if value is not None:
            raise OptionError(f"{name} has no effect with {given[0]}, for which no sample is read: leave it out")
    if rule is not None and given == ["--ranges"]:
        raise OptionError(
            f"the range rule {rule!r} has no effect with --ranges, which are ranges already: leave out --calibrate and "
            "--percent, or give --statistics, to which any rule can be applied"
        )


def kept_table(
    model: onnx.ModelProto, recipe: Recipe, *, ranges: Path | None, statistics: Path | None
) -> RangeTable | None:
    """Read ranges, or statistics and make ranges of them.

    Args:
        model: The float model that they are for; a warning says where they are of another.
        recipe: Names the range rule for statistics.
        ranges: A file of ranges, or None.
        statistics: A file of statistics, or None.

    Returns:
        The ranges, or None where neither file was given.

    Raises:
        DataError: The file cannot be read or does not fit the model.
    """
    from quantlab.calibration import load_ranges, load_statistics
    from quantlab.workflow.calibration import ranges_of
    from quantlab.workflow.ranges import check_origin

    if ranges is not None:
        table = load_ranges(ranges)
        check_origin("ranges", table.meta, model)
        return table
    return None if statistics is None else ranges_of(model, load_statistics(statistics), recipe)
