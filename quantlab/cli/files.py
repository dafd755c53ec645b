"""Output files are tried before any work begins: a long calibration never ends at a folder that cannot be written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from quantlab.errors import OptionError
from quantlab.graph.files import atomic_write, check_writable


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse output files that cannot be written, or that would replace something that is read or written as well.

    Args:
        outputs: Name of an option to the file it asks for, or None where it was not given.
        inputs: Name of an argument to the file or folder it reads.

    Raises:
        OptionError: Two of them are the same file.
        ModelError: The folder is missing or takes no new files, or there is a directory of that name.
    """
    taken = {Path(os.path.realpath(path)): label for label, path in inputs.items() if path is not None}
    for label, path in outputs.items():
        if path is None:
            continue
        place = Path(os.path.realpath(path))
        if place in taken:
            raise OptionError(f"{label} {str(path)!r} is the same file as {taken[place]}: give another name")
        taken[place] = label
        check_writable(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing.

    Raises:
        OptionError: There is a file of that name, or no folder can be made there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make the folder {str(folder)!r} ({error.strerror}): give another --folder") from None
