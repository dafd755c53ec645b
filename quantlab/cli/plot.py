"""`quantlab plot`: pictures of models, tensors, errors and grids, written as SVG or PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantlab.cli import options as o
from quantlab.cli.console import output, progress
from quantlab.cli.drawn import measured, read_array, source_and_grid
from quantlab.cli.groups import grouped
from quantlab.cli.pictures import Pictures
from quantlab.cli.running import Running
from quantlab.errors import OptionError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from quantlab.calibration import Histogram

Picture = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="PICTURE", help="Where to write: *.svg or *.png.", show_default=False),
]
Quantized = Annotated[
    Path | None,
    typer.Option(
        "--quantized",
        metavar="QUANTIZED",
        help="The quantized version of the model, whose grid of the tensor is drawn.",
        show_default=False,
    ),
]
GridType = Annotated[str, typer.Option("--type", metavar="TYPE", help="Type of the grid, such as uint8 or int4.")]
Symmetric = Annotated[bool, typer.Option("--symmetric", help="Spread the grid evenly around zero.")]
Log = Annotated[bool, typer.Option("--log", help="Counts on a logarithmic axis, which shows tails.")]

app = typer.Typer(
    help="Draw models, tensors, errors and grids as SVG or PNG.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def graph(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Any ONNX model.", show_default=False)],
    other: Annotated[
        Path | None, typer.Argument(metavar="[MODEL2]", help="Drawn beside it.", show_default=False)
    ] = None,
    *,
    out: Picture,
) -> None:
    """Draw the nodes of a model in layers: what quantizes, what works on integers, what works on floats."""
    _check(out, {"MODEL": model, "MODEL2": other})
    from quantlab.graph.files import load
    from quantlab.plots import graph_figure

    paths = [path for path in (model, other) if path is not None]
    names = [path.name for path in paths] if len({path.name for path in paths}) == len(paths) else map(str, paths)
    _write(graph_figure({name: load(path) for name, path in zip(names, paths, strict=True)}), out)


@app.command()
@grouped
def sqnr(
    float_model: o.FloatModel,
    quantized: o.QuantizedModel,
    data: o.Data,
    out: Picture,
    worst: Annotated[int, typer.Option(metavar="N", min=1, help="How many tensors to draw.")] = 40,
    *,
    pictures: Pictures,
    running: Running,
) -> None:
    """Draw how far quantization moved every tensor, worst on top; the numbers are those of `quantlab compare`."""
    _check(out, {"FLOAT": float_model, "QUANTIZED": quantized, "--data": data})
    images = pictures.options()
    from quantlab.backend import OrtBackend
    from quantlab.debug.compare import compare
    from quantlab.graph.files import load
    from quantlab.plots import plot_sqnr

    reference, rounded, pairs = load(float_model), load(quantized), running.pairs()
    samples = running.samples(data, reference, images)
    with progress(samples_per_batch=samples.per_batch) as track:
        found = compare(
            reference, rounded, samples, backend=OrtBackend(threads=running.threads), state=pairs, track=track
        )
    _write(plot_sqnr(found, worst=worst), out)


@app.command()
@grouped
def histogram(
    model: o.Model,
    tensor: Annotated[str, typer.Argument(metavar="TENSOR", help="Name of a float tensor.", show_default=False)],
    out: Picture,
    data: o.OptionalData = None,
    quantized: Quantized = None,
    log: Log = False,
    *,
    pictures: Pictures,
    running: Running,
) -> None:
    """Draw how many values of each size a tensor holds, and what a grid clips of them. Constants need no samples."""
    _check(out, {"MODEL": model, "--data": data, "--quantized": quantized})
    images = pictures.options()
    from quantlab.graph import GraphView
    from quantlab.plots import plot_histogram

    source, grid = source_and_grid(model, quantized, tensor)
    constant = GraphView.of(source).constant(tensor)
    if constant is not None:
        seen: Histogram | npt.NDArray[Any] = constant
    elif data is None:
        raise OptionError(f"tensor {tensor!r} is computed: give samples to run the model on with --data")
    else:
        seen = measured(source, tensor, running.samples(data, source, images), running)
    _write(plot_histogram(seen, grid=grid, log=log), out)


@app.command()
def channels(
    model: o.Model,
    weight: Annotated[str, typer.Argument(metavar="WEIGHT", help="Name of a constant.", show_default=False)],
    out: Picture,
    quantized: Quantized = None,
    axis: Annotated[
        int | None,
        typer.Option(metavar="N", help="Channel axis.", show_default="that of output channels"),
    ] = None,
) -> None:
    """Draw the range of each channel of a weight, and the grid that has to hold it."""
    _check(out, {"MODEL": model, "--quantized": quantized})
    from quantlab.graph import GraphView
    from quantlab.plan.axes import channel_axis
    from quantlab.plots import plot_channels

    source, grid = source_and_grid(model, quantized, weight)
    view = GraphView.of(source)
    values = view.constant(weight)
    if values is None:
        raise OptionError(f"the model has no constant {weight!r}{nearest(weight, view.constants)}")
    if axis is None:
        found = (channel_axis(node, weight, view) for node in view.readers(weight))
        axis = next((place for place in found if place is not None), 0)
    _write(plot_channels(values, axis=axis, grid=grid), out)


@app.command()
def observers(
    file: Annotated[Path, typer.Argument(metavar="FILE.npy", help="An array of floats.", show_default=False)],
    out: Picture,
    rules: Annotated[
        str, typer.Option(metavar="RULE,RULE,...", help="Which range rules to compare, six at most.")
    ] = "minmax,percentile,entropy,mse",
    grid_type: GridType = "uint8",
    symmetric: Symmetric = False,
) -> None:
    """Draw an array's values, and the ends of the grid that each range rule chooses for them."""
    _check(out, {"FILE.npy": file})
    from quantlab.plots import plot_observers

    names = [name.strip() for name in rules.split(",") if name.strip()]
    spec = _spec(grid_type, symmetric)
    _write(plot_observers(read_array(file), names, spec=spec), out)


@app.command()
def mapping(
    out: Picture,
    values: Annotated[str, typer.Option("--range", metavar="LO,HI", help="The real values to map.")] = "-1,3",
    grid_type: GridType = "int8",
    symmetric: Symmetric = False,
) -> None:
    """Draw which real value each integer of a grid stands for."""
    _check(out, {})
    import numpy as np

    from quantlab.arrays import Range
    from quantlab.plots import plot_mapping

    try:
        lo, hi = (np.array(part, np.float32) for part in values.split(","))
    except ValueError:
        raise OptionError(f"--range {values!r} is no range: give its two ends, as in --range -1,3") from None
    _write(plot_mapping(Range(lo, hi), _spec(grid_type, symmetric)), out)


def _check(out: Path, inputs: dict[str, Path | None]) -> None:
    """Refuse a picture that cannot be written, before any work begins."""
    from quantlab.cli.files import check_outputs
    from quantlab.plots.figures import check_picture

    check_picture(out)
    check_outputs({"--output": out}, inputs)


def _write(drawn: Axes | Figure, out: Path) -> None:
    from quantlab.plots import save_figure

    figure = drawn.get_figure(root=True)
    assert figure is not None
    save_figure(figure, out)
    output().print(f"written  {out}, {out.stat().st_size:,} bytes", soft_wrap=True)


def _spec(grid_type: str, symmetric: bool) -> Any:
    from quantlab.arrays import QuantSpec, dtype

    return QuantSpec(dtype=dtype(grid_type), symmetric=symmetric)
