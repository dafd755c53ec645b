"""The options that say how a model is run on samples, and the engine they are turned into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.cli import options as o
from quantlab.cli.samples import Samples
from quantlab.errors import OptionError

if TYPE_CHECKING:
    import onnx

    from quantlab.data import ImageOptions
    from quantlab.workflow.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a model is run, whatever for."""

    max_samples: o.MaxSamples = None
    threads: o.Threads = 1
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="OUT=IN",
            help="Feed this output back to this input with the next sample. Can be given several times.",
            show_default=False,
            rich_help_panel=o.RUN,
        ),
    ] = None

    def pairs(self) -> dict[str, str]:
        """Read the state, pairs such as `hn=h0`; names may contain `=` on the left.

        Returns:
            Output to the input it is fed back to.

        Raises:
            OptionError: Something is no pair, or an output stands in two.
        """
        pairs: dict[str, str] = {}
        for word in self.state or ():
            output, equals, given = word.rpartition("=")
            if not (output and equals and given):
                raise OptionError(f"--state {word!r} is no pair: give the output and the input it becomes, as in hn=h0")
            if output in pairs:
                raise OptionError(f"--state names the output {output!r} twice: keep one pair")
            pairs[output] = given
        return pairs

    def samples(self, data: Path, model: onnx.ModelProto, images: ImageOptions | None) -> Samples:
        """Open the samples to run a model on; inputs that get a state may be left out of them.

        Raises:
            OptionError: The state cannot be read.
            DataError: The samples cannot be read or do not fit the model.
        """
        return Samples(data, model, max_samples=self.max_samples, images=images, optional=self.pairs().values())


@dataclass(frozen=True, kw_only=True)
class Calibrating:
    """What else is said of a run that measures the ranges of tensors."""

    unoptimized: Annotated[
        bool,
        typer.Option(
            "--unoptimized",
            help="Run the graph node by node, as the calibrators of onnxruntime.quantization do: slower, the same "
            "bits.",
            rich_help_panel=o.RUN,
        ),
    ] = False
    memory: Annotated[
        int, typer.Option(metavar="MB", min=1, help="Activations held at a time, in MiB.", rich_help_panel=o.RUN)
    ] = 512
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Save the calibration here now and then, and go on from it.",
            show_default=False,
            rich_help_panel=o.RUN,
        ),
    ] = None

    def about_data(self, running: Running) -> dict[str, object]:
        """Return what was given for each option that has no effect without samples, or None."""
        return {"--checkpoint": self.checkpoint, "--max-samples": running.max_samples, "--state": running.state}

    def engine(self, running: Running) -> Engine:
        """Build the engine of a calibration.

        Raises:
            OptionError: The state cannot be read.
        """
        from quantlab.backend import OrtBackend
        from quantlab.workflow.engine import Engine

        return Engine(
            backend=OrtBackend(threads=running.threads, optimize=not self.unoptimized),
            budget=self.memory * 2**20,
            checkpoint=self.checkpoint,
            state=running.pairs(),
        )
