"""The environment is what a measured number depends on beside model and data: processor, versions, threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from quantlab import __version__
from quantlab.backend import OrtBackend
from quantlab.backend.hardware import processor

PACKAGES = ("numpy", "onnx", "onnxruntime", "numba")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where and with what something was measured.

    Attributes:
        host: Name of the machine.
        processor: Its name, architecture and flags, and the cores that the process may use.
        system: Operating system.
        python: Version of Python.
        versions: Package to version; packages that are not installed are left out.
        threads: Threads within one operator; 0 means all cores.
        optimize: Whether onnxruntime optimizes the graph first.
        providers: Execution providers in order of preference.
        omp: `OMP_NUM_THREADS`, or empty.
    """

    host: str
    processor: Mapping[str, Any]
    system: str
    python: str
    versions: Mapping[str, str]
    threads: int
    optimize: bool
    providers: tuple[str, ...]
    omp: str

    @classmethod
    def of(cls, backend: OrtBackend) -> Environment:
        """Look at this machine and process.

        Args:
            backend: What runs the models.

        Returns:
            The environment.
        """
        return cls(
            host=platform.node(),
            processor=processor().to_json(),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            versions={"quantlab": __version__, **_versions()},
            threads=backend.threads,
            optimize=backend.optimize,
            providers=tuple(backend.providers),
            omp=os.environ.get("OMP_NUM_THREADS", ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the environment as plain JSON values."""
        return asdict(self) | {"providers": list(self.providers)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Environment:
        """Read what `to_json` wrote."""
        return cls(**dict(plain) | {"providers": tuple(plain["providers"])})

    def __str__(self) -> str:
        """Return one line."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}" if self.threads else "all cores"
        flags = " ".join(self.processor["flags"] or ()) or "flags unknown"
        named = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        cores = f"{self.processor['cores']} cores"
        providers = ", ".join(self.providers)
        return f"{self.processor['name']} ({flags}), {cores}, {threads}, {providers}, Python {self.python}, {named}"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
