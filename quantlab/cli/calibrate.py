"""`quantlab calibrate`: a float model and samples in, a file of ranges out, to quantize from as often as wanted."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.text import Text

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.recipes import RecipeChoices
from quantlab.cli.running import Calibrating, Running
from quantlab.cli.tables import bytes_text, counted
from quantlab.errors import OptionError


@grouped
def calibrate(
    model: o.Model,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="RANGES", help="Where to write the ranges.", show_default=False)
    ],
    data: o.OptionalData = None,
    statistics: o.StatisticsFile = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="json, npz, onnxruntime, onnxruntime-flatbuffers, onnxruntime-text or tensorrt.",
            show_default="by the file's ending",
        ),
    ] = None,
    maximum: Annotated[
        str,
        typer.Option(
            metavar="absolute|onnxruntime",
            help="For formats that keep one number: max(|lo|, |hi|), or the max(lo, hi) that onnxruntime writes.",
        ),
    ] = "absolute",
    statistics_out: Annotated[
        Path | None,
        typer.Option(metavar="STATS", help="Keep the statistics too, as .npz.", show_default=False),
    ] = None,
    calibrate: o.Calibrate = "minmax",
    percent: o.Percent = None,
    activation_type: o.ActivationType = o.ACTIVATIONS,
    weight_type: o.WeightType = "int8",
    quant_format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="What the ranges are for: what is given to `quantlab quantize --format`.",
            rich_help_panel="Grids and ranges",
        ),
    ] = "qdq",
    nonfinite: o.NonFinite = "refuse-nan",
    exclude: o.Exclude = None,
    only: o.Only = None,
    op_types: o.OpTypes = None,
    *,
    pictures: Pictures,
    running: Running,
    calibrating: Calibrating,
) -> None:
    """Measure the ranges of a model's tensors on samples, and keep them in a file.

    `quantlab quantize --ranges` and `quantlab plan --ranges` use them, without samples and without running the model.
    """
    recipe = RecipeChoices(
        calibrate=calibrate,
        percent=percent,
        activation_type=activation_type,
        weight_type=weight_type,
        exclude=exclude,
        only=only,
        op_types=op_types,
        nonfinite=nonfinite,
        quant_format=quant_format,
    ).recipe()
    images = pictures.options()
    from quantlab.calibration import Stored, load_statistics, save_statistics
    from quantlab.calibration.tables import checked_maximum, format_of, table_formats
    from quantlab.cli.files import check_outputs
    from quantlab.cli.kept import check_sources
    from quantlab.graph.files import atomic_write, load
    from quantlab.workflow import calibration

    sources = {"--data": data, "--statistics": statistics}
    about_data = {**calibrating.about_data(running), "an image option": images}
    check_sources(sources, {**about_data, "--statistics-out": statistics_out}, needed=True)
    name = format_of(out, file_format)
    form, kind = table_formats[name], checked_maximum(maximum)
    if form.keeps == "ends" and kind != "absolute":
        raise OptionError(f"--maximum has no effect in the format {name!r}, which keeps both ends: leave it out")
    outputs = {"--output": out, "--statistics-out": statistics_out, "--checkpoint": calibrating.checkpoint}
    check_outputs(outputs, {"MODEL": model, **sources})
    source = load(model)
    started = perf_counter()
    if data is None:
        stored, words = load_statistics(Path(str(statistics))), f"the statistics {str(statistics)!r}"
    else:
        samples = running.samples(data, source, images)
        with progress(samples_per_batch=samples.per_batch) as track:
            engine = calibrating.engine(running)
            stored = calibration.collect_statistics(source, samples, recipe, engine=engine, track=track)
        stored = Stored(statistics=stored.statistics, meta={**stored.meta, "samples": samples.seen})
        words = f"{counted(samples.seen, 'sample')} in {perf_counter() - started:.1f} s"
    if statistics_out is not None:  # first, so that what took long is not lost to ranges that cannot be written
        with atomic_write(statistics_out) as temporary:
            save_statistics(temporary, stored.statistics, stored.meta)
    table = calibration.ranges_of(source, stored, recipe)
    content = form.write(table, kind)
    with atomic_write(out) as temporary:
        temporary.write_bytes(content)
    rows = [("ranges", f"{calibrate} of {words} for {counted(len(table.ranges), 'tensor')}")]
    if form.keeps == "maximum":
        rows.append(("", "note: the format keeps one number a tensor; read back, its range is that to both sides"))
    rows += [("written", f"{path}, {bytes_text(path.stat().st_size)}") for path in (out, statistics_out) if path]
    for label, text in rows:
        output().print(Text.assemble((f"{label:<9}", "bold"), text), soft_wrap=True)
