"""What measured pages of the documentation share: sections with owners, and a line on what they were measured with."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "onnx", "onnxruntime", "numba")
INTRODUCTION = ""
"""The title of what comes before the first section."""


def replaced(page: str, new: str, owned: Collection[str]) -> str:
    r"""Put new sections in the place of those that their writer owns; all others stay as they are.

    Args:
        page: A Markdown page, or nothing.
        new: Sections, each beginning with `## `, perhaps after an introduction.
        owned: Titles of the sections that make room, `INTRODUCTION` for what is before the first.

    Returns:
        The page, with the new sections where the first of the old ones was, or at the end.

    Example:
        >>> print(replaced("# Page\n\n## A\n\nold\n\n## B\n\nkept\n", "## A\n\nnew", ("A",)))
        # Page
        <BLANKLINE>
        ## A
        <BLANKLINE>
        new
        <BLANKLINE>
        ## B
        <BLANKLINE>
        kept
        <BLANKLINE>
    """
    old = _sections(page)
    at = next((index for index, text in enumerate(old) if _title(text) in owned), len(old))
    kept = [text for text in old if _title(text) not in owned]
    return "\n\n".join([*kept[:at], *_sections(new), *kept[at:]]) + "\n"


def _sections(page: str) -> list[str]:
    return [text.rstrip() for text in re.split(r"(?m)^(?=## )", page) if text.strip()]


def _title(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ").strip() if section.startswith("## ") else INTRODUCTION


def conditions(command: str) -> str:
    """Return the command, date, machine and versions that figures come from, as two lines of a page."""
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    flags = next((line for line in _cpuinfo() if line.startswith("flags")), "")
    vnni = "with" if "avx512_vnni" in flags or "avx_vnni" in flags else "without"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Made with `{command}`\n"
        f"on {datetime.now(UTC):%Y-%m-%d}, {cpu} ({vnni} VNNI), Python {platform.python_version()}, {versions}."
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
