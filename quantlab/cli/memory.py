"""How much memory this process holds, and has held at most: from /proc on Linux, else as far as the system tells."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Physical memory of this process, in bytes; None where the system does not tell.

    Attributes:
        resident: What it holds now.
        peak: The most that it has held.
    """

    resident: int | None = None
    peak: int | None = None


def memory(status: Path = STATUS) -> Memory:
    """Ask the system how much memory this process takes.

    Args:
        status: Linux's description of the process, with lines such as `VmRSS:  123 kB`.

    Returns:
        What is known; elsewhere the peak alone, or nothing on Windows.
    """
    try:
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii", errors="replace").splitlines())
        return Memory(resident=_bytes(lines["VmRSS"]), peak=_bytes(lines["VmHWM"]))
    except (OSError, KeyError, ValueError):
        return Memory(peak=_peak_elsewhere())


def _bytes(field: str) -> int:
    return int(field.split(maxsplit=1)[0]) * 1024


def _peak_elsewhere() -> int | None:
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    # The only number that differs between systems: bytes on macOS, kilobytes on the others.
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
