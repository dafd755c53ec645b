"""The house: who may import whom, what loads when, and that every public name is there."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import quantlab

ROOT = Path(quantlab.__file__).parent

# Each room may import the rooms before it. Rooms on one line do not know each other.
FLOORS = [
    ["errors", "progress"],
    ["registry"],
    ["kernels"],
    ["arrays"],
    ["calibration", "data", "graph", "metrics"],
    ["plan"],
    ["rewrite"],
    ["algorithms"],
    ["backend"],
    ["workflow"],
    ["debug"],
    ["plots"],
    ["pages"],
    ["experiments"],
    ["config"],
    ["ort"],
    ["cli"],
    ["preprocess"],
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
BESIDE = {"demo": {"errors", "data"}}
"""Embedded data, read by workflow and cli; it knows next to nothing itself."""


def imports(path):
    """Yield the rooms that a module imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "quantlab" and len(parts) > 1:
                yield parts[1]


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


MODULES = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_rooms_before_them(path):
    room = room_of(path)
    used = {other for other in imports(path) if other in FLOOR or other in BESIDE} - {room}
    if room in BESIDE:
        assert used <= BESIDE[room]
        return
    assert room in FLOOR, f"room {room!r} is new: give it a floor here and in the architecture page"
    for other in used - set(BESIDE):
        assert FLOOR[other] < FLOOR[room], f"{room} may not import {other}"
    if used & set(BESIDE):
        assert room in ("experiments", "cli")


def test_only_the_backend_imports_onnxruntime():
    words = ("import onnxruntime", 'import_module("onnxruntime', "from onnxruntime")
    users = {str(path.relative_to(ROOT)) for path in MODULES if any(word in path.read_text() for word in words)}
    # The script that trained the demo model runs by itself, with torch, outside the library's flow.
    assert users == {"backend/ort.py", "backend/peer.py", "demo/train.py"}


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_importing_quantlab_loads_nothing_heavy():
    loaded = run("import sys, quantlab; print(*{name.split('.')[0] for name in sys.modules})")
    heavy = {
        "numpy",
        "onnx",
        "onnxruntime",
        "numba",
        "scipy",
        "rich",
        "typer",
        "PIL",
        "matplotlib",
        "ml_dtypes",
        "torch",
    }
    assert not heavy & set(loaded)


def test_quantizing_needs_neither_numba_nor_plots_to_be_imported():
    code = "import sys, quantlab; quantlab.quantize_static; print(*{name.split('.')[0] for name in sys.modules})"
    assert not {"numba", "scipy", "matplotlib", "rich", "typer", "PIL", "torch"} & set(run(code))


@pytest.mark.parametrize("name", quantlab.__all__)
def test_public_names_exist_and_are_documented(name):
    assert (getattr(quantlab, name).__doc__ or "").strip()


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'quantlab' has no attribute 'quantise'"):
        quantlab.quantise  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_are(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_every_module_imports():
    for module in pkgutil.walk_packages([str(ROOT)], "quantlab."):
        if module.name.endswith("__main__"):
            continue
        importlib.import_module(module.name)
