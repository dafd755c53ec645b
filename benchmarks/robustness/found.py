"""What a tool made of one model: the steps it took, as a process reports them in JSON."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

DIED = "process"
"""The step in which a process ends that did not end by itself."""


@dataclass(kw_only=True)
class Step:
    """One thing that was tried.

    Attributes:
        seconds: How long it took.
        memory: Peak memory over what the process held before, in MB (1e6 bytes).
        sqnr: Output SQNR in dB of the quantized model that came out; None where none did.
        rounded: How many nodes compute on rounded tensors; None where nobody counted.
        error: The first line of what went wrong, empty if nothing did.
    """

    seconds: float = 0.0
    memory: float = 0.0
    sqnr: float | None = None
    rounded: int | None = None
    error: str = ""


@dataclass(kw_only=True)
class Found:
    """All steps of one tool on one model, and what preparation did; of what was not reached the default stays.

    Attributes:
        steps: By name, in their order.
        operators: Operator to number of nodes in the float model, bodies included.
        nodes: Number of nodes, bodies included, before and after preparation.
        opsets: Default operator set before and after.
        rungs: Rung of the shape ladder to the number of tensors that it served.
        passes: Pass to the number of changes it made.
        differs: Relative difference of the prepared model's outputs to those of the float model.
        own: The same between the float model with and without onnxruntime's optimizations.
        bound: What counts as float rounding.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    nodes: tuple[int, int] = (0, 0)
    opsets: tuple[int, int] = (0, 0)
    rungs: dict[str, int] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)
    differs: float = 0.0
    own: float = 0.0
    bound: float = 0.0

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Found:
        """Return what a report in JSON says."""
        steps = {name: Step(**step) for name, step in report.get("steps", {}).items()}
        return cls(**{**report, "steps": steps})

    def error(self, name: str) -> str:
        """Return why a step failed or was not reached, or nothing."""
        if name in self.steps:
            return self.steps[name].error
        return self.steps[DIED].error if DIED in self.steps else ""

    @property
    def works(self) -> bool:
        """Whether everything was done, and preparation changed nothing that a user would see."""
        return not any(step.error for step in self.steps.values()) and self.differs <= self.bound

    @contextmanager
    def step(self, name: str, *, measured: bool = True) -> Iterator[Step]:
        """Do a step, noting an error instead of ending; one that was measured can go on unmeasured."""
        done = self.steps.setdefault(name, Step())
        held = memory_now() if measured else 0.0
        start = perf_counter()
        try:
            yield done
        except Exception as error:
            done.error = described(error)
        if measured:
            done.seconds, done.memory = perf_counter() - start, memory_peak() - held


def described(error: Exception) -> str:
    """Return the class of an error and the first line of its message."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def memory_now() -> float:
    """Return the resident memory in MB, after giving back what is free; the peak begins anew here."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def memory_peak() -> float:
    """Return the largest resident memory since `memory_now`, in MB.

    The one of `resource.getrusage` will not do: a new process begins with the peak of the one that started it.
    """
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6
