"""Attribute: which sources of quantization error the error at the outputs comes from.

A source is one thing that one grid does: rounding, clipping below or above at an activation, or a changed weight or
bias. The float model is given a gate at each (`quantlab.debug.gates`). A screening with few runs estimates all shares
(`quantlab.debug.screening`); the largest are then measured, each alone and each left out of the whole:

    alone_i = P(only i on) / P        relieved_i = 1 - P(all on but i) / P(all on)
    1 = sum_i alone_i + interaction + requantization

P is the measured noise power at the outputs. The difference to that of the simulation, with all gates on, is what the
runtime's integer arithmetic adds between grids. Last, the sources are peeled off one after the other, the largest
first, each with all that goes away when its nodes stay in float: where many saturate a network, the first ones gone
change little, and only this says how many it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from quantlab.arrays import sqnr_from_powers
from quantlab.backend import Backend, Batch, OrtBackend, Runner
from quantlab.calibration import Histogram
from quantlab.debug.findings import Attribution, Source
from quantlab.debug.gate_runs import Floats, GateRuns
from quantlab.debug.gates import PARTS, Gated, gated_model
from quantlab.debug.models import common_outputs, matched
from quantlab.debug.remedies import SMALL, Evidence, advise
from quantlab.debug.screening import SPARSITY
from quantlab.errors import ModelError, OptionError
from quantlab.graph import GraphView
from quantlab.progress import Track, quiet
from quantlab.workflow.measure import measure
from quantlab.workflow.quantize import require_repeatable


def attribute(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    runs: int = 16,
    screening: int = 32,
    backend: Backend | None = None,
    track: Track = quiet,
) -> Attribution:
    """Split the error at the outputs among its sources.

    Each output counts by its noise relative to its signal, so that outputs of different units count the same; those
    that are not floating-point do not count.

    Args:
        float_model: The float model, prepared or not.
        quantized_model: Its quantized version.
        batches: Input name to array, one mapping a sample; they are read four times.
        runs: How many sources are measured: those of the largest estimates. Each takes two or three runs a sample.
        screening: How many runs the estimates take for each of the first eight samples.
        backend: Runs the models; onnxruntime by default.
        track: Shows progress.

    Returns:
        The sources, those that were measured first, by their share alone; then the others by their estimate.

    Raises:
        ModelError: The models have different outputs, no floating-point output, or nothing in the second is quantized.
        DataError: There is no data, it can be read only once, or an output is NaN or infinite.
        OptionError: A number of runs is out of its limits.

    Example:
        >>> import quantlab
        >>> from quantlab.demo import digits, float_model
        >>> samples = [{"image": image[None]} for image in digits().test_images[:4]]
        >>> result = quantlab.quantize_static(float_model(), None, samples)
        >>> found = quantlab.attribute(quantlab.load(float_model()), result.model, samples, runs=4)
        >>> round(found.alone + found.interaction + found.requantization, 6)
        1.0
        >>> found.sources[0].part
        'weight'
    """
    _check_runs(runs, screening)
    require_repeatable(batches, "attributing error reads the data more than once")
    backend = backend or OrtBackend()
    prepared, matching = matched(float_model, quantized_model)
    outputs = _outputs(prepared, quantized_model)
    gated = gated_model(prepared, quantized_model, matching)
    gate_runs = GateRuns(gated=gated, runner=backend.open(gated.model, outputs), outputs=tuple(outputs))
    estimates = gate_runs.screened(batches, screening, track)
    chosen: list[int] = np.argsort(-estimates, kind="stable")[:runs].tolist()
    powers = _measured(gate_runs, backend.open(quantized_model, outputs), batches, chosen, track)
    sources = _sources(gated, estimates, powers)
    sources = _peeled(gate_runs, sources, powers, batches, track)
    empty = {gated.gates[one].tensor: Histogram() for one in chosen if gated.gates[one].part in PARTS}
    seen = measure(backend, prepared, empty, batches, nonfinite="count", track=track) if empty else {}
    return _attribution(gated, sources, powers, Evidence(matching.exact.view, seen))


def _check_runs(runs: int, screening: int) -> None:
    if runs < 0:
        raise OptionError(f"runs must be at least 0, got {runs}")
    if screening < SPARSITY:
        raise OptionError(f"screening must be at least {SPARSITY}, got {screening}")


def _outputs(prepared: onnx.ModelProto, quantized: onnx.ModelProto) -> list[str]:
    wanted = common_outputs(prepared, quantized)
    before, after = GraphView.of(prepared), GraphView.of(quantized)
    for name in (*before.inputs, *wanted):
        if before.element_type(name) != after.element_type(name):
            raise ModelError(
                f"{name!r} has another type in the quantized model: quantize without integer_inputs and integer_outputs"
            )
    return wanted


@dataclass(frozen=True, kw_only=True)
class _Powers:
    """Noise powers relative to the signal.

    Attributes:
        measured: Of the quantized model.
        simulated: Of all sources turned on in float arithmetic.
        alone: Place of a gate to the power of this source alone.
        without: Place of a gate to the power of all but this source.
        samples: How many batches were run.
    """

    measured: float
    simulated: float
    alone: Mapping[int, float]
    without: Mapping[int, float]
    samples: int


def _measured(
    gate_runs: GateRuns, quantized: Runner, batches: Iterable[Batch], chosen: Sequence[int], track: Track
) -> _Powers:
    everything = frozenset(range(len(gate_runs.gated.gates)))
    switched = [everything, *(frozenset([one]) for one in chosen), *(everything - {one} for one in chosen)]
    found, samples = gate_runs.measured(batches, switched, track, quantized=quantized)
    alone, without = np.split(found[2:], 2)
    return _Powers(
        measured=float(found[0]),
        simulated=float(found[1]),
        alone=dict(zip(chosen, alone.tolist(), strict=True)),
        without=dict(zip(chosen, without.tolist(), strict=True)),
        samples=samples,
    )


def _sources(gated: Gated, estimates: Floats, powers: _Powers) -> dict[int, Source]:
    """Return the sources by the places of their gates: those that were measured by their share, then the others."""
    whole, simulated = (power or 1.0 for power in (powers.measured, powers.simulated))
    found = {
        place: Source(
            tensor=gate.tensor,
            part=gate.part,
            node=gate.node,
            estimate=float(estimates[place]) / whole,
            alone=powers.alone[place] / whole if place in powers.alone else None,
            relieved=1 - powers.without[place] / simulated if place in powers.without else None,
            advice="",
            nodes=gate.nodes,
        )
        for place, gate in enumerate(gated.gates)
    }
    order = sorted(found, key=lambda place: _rank(found[place]))
    return {place: found[place] for place in order}


def _rank(source: Source) -> tuple[bool, float]:
    return source.alone is None, -(source.estimate if source.alone is None else source.alone)


def _peeled(
    gate_runs: GateRuns, sources: Mapping[int, Source], powers: _Powers, batches: Iterable[Batch], track: Track
) -> dict[int, Source]:
    """Measure what is left when the nodes of the largest sources stay in float, one source after the other."""
    large = [place for place, source in sources.items() if (source.alone or 0.0) >= SMALL]
    if not large:
        return dict(sources)
    switched, gone = [], frozenset[str]()
    for place in large:
        gone |= frozenset(sources[place].nodes)
        switched.append([one for one, source in sources.items() if not gone.issuperset(source.nodes)])
    left, _ = gate_runs.measured(batches, switched, track)
    shares = dict(zip(large, (left / (powers.simulated or 1.0)).tolist(), strict=True))
    return {place: replace(source, left=shares.get(place)) for place, source in sources.items()}


def _attribution(gated: Gated, sources: Mapping[int, Source], powers: _Powers, evidence: Evidence) -> Attribution:
    whole = powers.measured or 1.0
    rows = (replace(row, advice=advise(row, gated.gates[place], evidence)) for place, row in sources.items())
    alone = sum(powers.alone.values()) / whole
    return Attribution(
        sqnr_db=sqnr_from_powers(1.0, powers.measured),
        simulated_db=sqnr_from_powers(1.0, powers.simulated),
        sources=tuple(rows),
        alone=alone,
        interaction=powers.simulated / whole - alone,
        requantization=(powers.measured - powers.simulated) / whole,
        samples=powers.samples,
    )
