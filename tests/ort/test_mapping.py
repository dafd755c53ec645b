"""The page that maps names is complete and true: both columns are imported, and every state and proof is checked."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from quantlab.errors import QuantlabError

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "onnxruntime.md").read_text()
PEER = Path(importlib.util.find_spec("onnxruntime").origin).parent / "quantization"
INSIDE = ("operators", "neural_compressor", "CalTableFlatBuffers")
NEEDS_MORE = ("matmul_nbits_quantizer",)
"""Modules of the peer's that do not import without packages that are not installed with it."""

ROWS = [
    (there.strip("` "), here.strip("` "), state.strip(), re.findall(r"`(\w+)`", names))
    for there, here, state, names in re.findall(
        r"^\| (`onnxruntime\.[^|]*) \| ?([^|]*)\| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE
    )
]


def public_names(path):
    """Names that a module defines, and those that a package takes in, but for loggers and what begins with _."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and path.parent == PEER and path.name == "__init__.py":
            found |= {alias.name for alias in node.names}
    return {name for name in found if not name.startswith("_") and name != "logger"}


def modules():
    for path in sorted(PEER.rglob("*.py")):
        parts = path.relative_to(PEER).with_suffix("").parts
        if parts[0] not in INSIDE and public_names(path):
            yield ".".join(("onnxruntime.quantization", *(part for part in parts if part != "__init__"))), path


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda one: str(one).rpartition("/")[2])
def test_every_public_name_of_the_peer_is_on_the_page(module, path):
    listed = [name for there, _, _, names in ROWS for name in names if there == module]
    assert sorted(listed) == sorted(public_names(path))


@pytest.mark.parametrize(("there", "here", "state", "names"), ROWS, ids=[f"{row[1]}-{row[2]}" for row in ROWS])
def test_both_columns_can_be_imported(there, here, state, names):
    if there.rpartition(".")[2] not in NEEDS_MORE:
        peer = importlib.import_module(there)
        assert all(hasattr(peer, name) for name in names)
    if state == "left out":
        room = importlib.import_module(there.replace("onnxruntime.quantization", "quantlab.ort"))
        assert not any(hasattr(room, name) for name in names)
        return
    assert here == there.replace("onnxruntime.quantization", "quantlab.ort")
    room = importlib.import_module(here)
    for name in names:
        refuses = (getattr(room, name).__doc__ or "").startswith(("Not built yet", "Refuse"))
        assert refuses == (state == "refuses"), name


REFUSING = [(here, name) for _, here, state, names in ROWS if state == "refuses" for name in names]


@pytest.mark.parametrize(("here", "name"), REFUSING, ids=[f"{here}.{name}" for here, name in REFUSING])
def test_what_is_not_built_says_so(here, name):
    with pytest.raises(QuantlabError, match=f"^{name} is not built yet in quantlab: "):
        getattr(importlib.import_module(here), name)("model.onnx", "out.onnx")


CLASSES = ("calibrate", "onnx_model", "tensor_quant_overrides", "qdq_quantizer", "onnx_quantizer", "base_quantizer")
CLASSES += ("quant_utils", "quantize", "static_quantize_runner", "registry")


@pytest.mark.parametrize("module", CLASSES)
def test_classes_have_every_public_method_of_the_peers(module):
    peer = importlib.import_module(f"onnxruntime.quantization.{module}")
    room = importlib.import_module(f"quantlab.ort.{module}")
    built = {name for _, here, state, names in ROWS for name in names if (here, state) == (room.__name__, "built")}
    for name in built & {name for name, value in vars(peer).items() if isinstance(value, type)}:
        wanted = {method for method in vars(getattr(peer, name)) if not method.startswith("_")}
        assert not [method for method in wanted if not hasattr(getattr(room, name), method)], name


def test_modules_that_the_package_takes_in_are_attributes_of_it():
    peer, room = (importlib.import_module(name) for name in ("onnxruntime.quantization", "quantlab.ort"))
    taken = {name for name, value in vars(peer).items() if isinstance(value, types.ModuleType)}
    assert {name for name in taken - set(INSIDE) if not isinstance(vars(room).get(name), types.ModuleType)} == set()


def test_every_difference_has_its_test():
    section = PAGE.partition("## What is different")[2].partition("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    tests = {name for path in HERE.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= tests, row
    of_models = re.findall(r"^def (test_\w+)", (HERE / "test_differences.py").read_text(), re.M)
    assert set(of_models) <= set(re.findall(r"`(test_\w+)`", section))


def test_importing_the_room_imports_nothing_of_onnxruntime():
    code = "import sys, quantlab.ort; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in loaded if name.partition(".")[0] in ("onnxruntime", "numba", "torch", "typer")]
