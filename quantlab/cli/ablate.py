"""`quantlab ablate`: the trials that a YAML file declares, and one table of what each costs and gains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from quantlab.cli import options as o
from quantlab.cli.console import output, progress, write_json
from quantlab.cli.tables import Column, decibels, number, show
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.cli.tables import Cell
    from quantlab.experiments.results import AblationResult, Row

EXAMPLE = ("ablation.yaml", "digits_float.onnx", "calibration.npz", "evaluation.npz")


def ablate(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="The YAML file of an ablation.", show_default=False)
    ] = None,
    folder: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where results, models and the journal are left."),
    ] = Path("quantlab-ablation"),
    example: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write an example into a folder, with the embedded model and its data, and do nothing else.",
            show_default=False,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Try the configurations that a YAML file declares, and write one table: size, time, loss, metrics, output SQNR.

    Calibration is shared between trials, and times are taken one model at a time. Interrupted, and started again with
    the same -o, it goes on where it stopped.
    """
    from quantlab.cli.files import make_folder

    if example is not None:
        if config is not None:
            raise OptionError("CONFIG and --example exclude each other: give one of them")
        make_folder(example)
        _write_example(example)
        return
    if config is None:
        raise OptionError("there is no CONFIG: name the YAML file of an ablation, or begin with --example FOLDER")
    from quantlab.config.ablation import read_ablation
    from quantlab.experiments.ablation import ablate as run

    declared = read_ablation(config)
    make_folder(folder)
    with progress() as track, declared.resources.opened() as executor:
        result = run(declared.ablation, folder=folder, executor=executor, track=track)
    if json:
        write_json(result.to_json())
    else:
        _show(result, folder)


def _show(result: AblationResult, folder: Path) -> None:
    console = output()
    columns = [Column(header="trial", kind="name")]
    words = ("size MB", "smaller", "time s", "spread", "faster", "loss")
    columns += [Column(header=name, kind="number") for name in (*words, *result.original.metrics)]
    columns += [Column(header=f"SQNR dB {name}", kind="number", optional=True) for name in result.original.sqnr_db]
    show(console, "", columns, [_line(result, row) for row in result.rows])
    console.print()
    console.print(f"measured on {result.original.timed_on or result.original.environment}", soft_wrap=True)
    done = f"{len(result.rows)} rows, {result.resumed} of them from the journal"
    console.print(f"{done}; passes over calibration data: {result.calibration_passes}", soft_wrap=True)
    console.print(Text.assemble("left in ", (str(folder), "bold"), ": results.md, results.csv, results.json"))


def _line(result: AblationResult, row: Row) -> tuple[Cell, ...]:
    first = result.original
    return (
        row.trial,
        f"{row.megabytes:.3f}",
        f"{first.size_bytes / row.size_bytes:.2f}x",
        _maybe(row.time),
        _maybe(row.spread),
        _maybe(result.speed_up(row), "x"),
        number(row.loss, 4),
        *(number(value, 4) for value in row.metrics.values()),
        *(decibels(value) for value in row.sqnr_db.values()),
    )


def _maybe(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.3g}{unit}"


def _write_example(folder: Path) -> None:
    import numpy as np

    from quantlab.cli.files import check_outputs, write_text
    from quantlab.config.ablation import example
    from quantlab.demo import digits, float_model
    from quantlab.graph.files import atomic_write

    paths = [folder / name for name in EXAMPLE]
    check_outputs({path.name: path for path in paths}, {})
    config, model, calibration, evaluation = paths
    data = digits()
    with atomic_write(model) as temporary:
        temporary.write_bytes(float_model())
    with atomic_write(calibration) as temporary, temporary.open("wb") as file:
        np.savez(file, image=data.train_images, label=data.train_labels)
    with atomic_write(evaluation) as temporary, temporary.open("wb") as file:
        np.savez(file, image=data.test_images, label=data.test_labels)
    write_text(config, example())
    console = output()
    console.print(Text.assemble("left in ", (str(folder), "bold"), f": {', '.join(EXAMPLE)}"), soft_wrap=True)
    console.print(f"next: quantlab ablate {config}", style="dim", soft_wrap=True)
