"""`quantlab calibrate`: a float model and samples in, a file of ranges out, to quantize from as often as wanted."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.text import Text

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.tables import bytes_text, counted
from quantlab.errors import OptionError


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
    layout: o.Layout = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    scale: o.Scale = None,
    channels: o.Channels = None,
    resize: o.Resize = None,
    crop_fraction: o.CropFraction = None,
    max_samples: o.MaxSamples = None,
    threads: o.Threads = 1,
    unoptimized: o.Unoptimized = False,
    memory: o.Memory = 512,
    checkpoint: o.CheckpointFile = None,
    state: o.State = None,
) -> None:
    """Measure the ranges of a model's tensors on samples, and keep them in a file.

    `quantlab quantize --ranges` and `quantlab plan --ranges` use them, without samples and without running the model.
    """
    recipe = o.recipe_from(
        calibrate=calibrate,
        percent=percent,
        activation_type=activation_type,
        weight_type=weight_type,
        exclude=exclude,
        only=only,
        op_types=op_types,
        nonfinite=nonfinite,
        quant_format=quant_format,
    )
    images = o.images_from(
        layout=layout,
        size=size,
        mean=mean,
        std=std,
        scale=scale,
        channels=channels,
        resize=resize,
        crop_fraction=crop_fraction,
    )
    from quantlab.calibration import Stored, load_statistics, save_statistics
    from quantlab.calibration.tables import checked_maximum, format_of, table_formats
    from quantlab.cli.files import check_outputs
    from quantlab.cli.kept import check_sources
    from quantlab.cli.samples import Samples
    from quantlab.graph.files import atomic_write, load
    from quantlab.workflow import calibration

    sources = {"--data": data, "--statistics": statistics}
    about_data = {"--checkpoint": checkpoint, "--max-samples": max_samples, "--state": state, "an image option": images}
    check_sources(sources, {**about_data, "--statistics-out": statistics_out}, needed=True)
    name = format_of(out, file_format)
    form, kind = table_formats[name], checked_maximum(maximum)
    if form.keeps == "ends" and kind != "absolute":
        raise OptionError(f"--maximum has no effect in the format {name!r}, which keeps both ends: leave it out")
    outputs = {"--output": out, "--statistics-out": statistics_out, "--checkpoint": checkpoint}
    check_outputs(outputs, {"MODEL": model, **sources})
    source = load(model)
    started = perf_counter()
    if data is None:
        stored, words = load_statistics(Path(str(statistics))), f"the statistics {str(statistics)!r}"
    else:
        samples = Samples(data, source, max_samples=max_samples, images=images, optional=o.state_from(state).values())
        with progress(samples_per_batch=samples.per_batch) as track:
            engine = o.engine_from(
                threads=threads, memory=memory, checkpoint=checkpoint, state=state, unoptimized=unoptimized
            )
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
