"""The processor of this machine, as far as the system tells: its name, its cores, and how it multiplies 8-bit integers.

x86 processors multiply uint8 by int8 in one of two ways. VPMADDUBSW (AVX2, AVX-512BW) adds pairs of products in 16 bits
and saturates; VPDPBUSD (VNNI) adds four in 32 bits and is exact. Source: Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 2.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from quantlab.backend.ort import usable_cores

CPUINFO = Path("/proc/cpuinfo")

INTEGER_FLAGS = ("avx2", "avx512bw", "avx_vnni", "avx512_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
"""What Linux calls the instructions that matter to 8-bit models, in the order in which they are shown."""

VNNI = frozenset(("avx_vnni", "avx512_vnni", "amx_int8"))


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A processor.

    Attributes:
        name: What it calls itself; the architecture where the system does not tell.
        architecture: Such as `"x86_64"` or `"aarch64"`.
        cores: Cores that this process may use.
        flags: Its instruction sets under Linux's names; None where the system does not tell.
    """

    name: str
    architecture: str
    cores: int
    flags: frozenset[str] | None

    @property
    def integer_flags(self) -> tuple[str, ...] | None:
        """The flags that matter to 8-bit models; None where they are unknown."""
        return None if self.flags is None else tuple(flag for flag in INTEGER_FLAGS if flag in self.flags)

    @property
    def is_x86(self) -> bool:
        """Whether it is an x86 processor of 64 bits."""
        return self.architecture.lower() in ("x86_64", "amd64")

    @property
    def saturates(self) -> bool | None:
        """Whether sums of uint8 by int8 products may saturate on it; None where that is unknown."""
        if not self.is_x86:
            return False if self.architecture.lower() in ("aarch64", "arm64") else None
        return None if self.flags is None else not self.flags & VNNI

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; of the flags those that matter to 8-bit models."""
        flags = self.integer_flags
        return {
            "name": self.name,
            "architecture": self.architecture,
            "cores": self.cores,
            "flags": None if flags is None else list(flags),
        }


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """Ask the system what this machine computes with.

    Args:
        cpuinfo: Linux's description of the processor; other systems have no such file, and leave the flags unknown.

    Returns:
        What is known.
    """
    fields: dict[str, str] = {}
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features"))
    architecture = platform.machine()
    return Processor(
        name=fields.get("model name") or platform.processor() or architecture,
        architecture=architecture,
        cores=usable_cores(),
        flags=None if flags is None else frozenset(flags.split()),
    )
