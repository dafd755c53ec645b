"""Which kernels run: the context, the environment variable, the size of the array, and a machine without Numba."""

from __future__ import annotations

import contextvars
import os
import pickle
import pydoc
import subprocess
import sys
import threading
from typing import get_type_hints

import numpy as np
import pytest

from quantlab import kernels
from quantlab.errors import OptionError
from quantlab_kernels import compiled, reference
from tests.kernels.kernel_cases import bits

WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None\n"


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "QUANTLAB_KERNELS": "", **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("QUANTLAB_KERNELS", raising=False)


def test_active_follows_the_context_and_then_the_variable(monkeypatch):
    assert kernels.choice() == "auto"
    assert kernels.active() is compiled
    monkeypatch.setenv("QUANTLAB_KERNELS", "numpy")
    assert kernels.active() is reference
    with kernels.using("numba"):
        assert kernels.active() is compiled
        with kernels.using("numpy"):
            assert kernels.active() is reference
        assert kernels.active() is compiled
    assert kernels.choice() == "numpy"


def test_using_ends_with_an_exception_and_stays_in_its_thread():
    def fail():
        with kernels.using("numpy"):
            seen = []
            thread = threading.Thread(target=lambda: seen.append(kernels.choice()))
            thread.start()
            thread.join()
            assert seen == ["auto"]
            assert contextvars.copy_context().run(kernels.choice) == "numpy"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert kernels.choice() == "auto"


def test_unknown_names_are_refused_with_the_nearest_one(monkeypatch):
    with pytest.raises(OptionError) as caught, kernels.using("numpyy"):
        pass
    assert str(caught.value) == "kernels='numpyy' is unknown; did you mean 'numpy'? (allowed: auto, numpy, numba)"
    monkeypatch.setenv("QUANTLAB_KERNELS", "numbaa")
    with pytest.raises(OptionError) as caught:
        kernels.min_max(np.ones(3, np.float32))
    assert str(caught.value) == (
        "QUANTLAB_KERNELS='numbaa' is unknown; did you mean 'numba'? (allowed: auto, numpy, numba)"
    )


def _row(size):
    """One channel, and one block of as many neighbours."""
    return np.zeros((1, size), np.float32)


ONE, NONE = np.ones(1, np.float32), [0]
GRID = (0.5, 0, -8, 7)
ARGUMENTS = {
    "min_max": lambda size: (_row(size),),
    "min_max_axis": lambda size: (_row(size), 0),
    "min_max_lattice": lambda size: (_row(size), 0, 0, 1),
    "lattice_histogram": lambda size: (_row(size), 0, 0, 1),
    "histogram": lambda size: (_row(size), 0.0, 1.0, 2),
    "kl_divergences": lambda size: (np.ones(size, np.int64), 2),
    "mse_curve": lambda size: (np.arange(size) + 0.5, np.ones(size), np.ones(1), np.zeros(1), 4),
    "fake_quant": lambda size: (_row(size), *GRID),
    "fake_quant_axis": lambda size: (_row(size), ONE, NONE, 0, -8, 7),
    "fake_quant_block": lambda size: (_row(size), ONE[None], [NONE], 1, size, -8, 7),
    "quantize": lambda size: (_row(size), *GRID, np.int8),
    "quantize_axis": lambda size: (_row(size), ONE, NONE, 0, -8, 7, np.int8),
    "quantize_block": lambda size: (_row(size), ONE[None], [NONE], 1, size, -8, 7, np.int8),
    "dequantize": lambda size: (_row(size).astype(np.int8), 0.5, 0),
    "dequantize_axis": lambda size: (_row(size).astype(np.int8), ONE, NONE, 0),
    "dequantize_block": lambda size: (_row(size).astype(np.int8), ONE[None], [NONE], 1, size),
    "quantize_pack_4bit": lambda size: (_row(size), 16, True),
    "error_sums": lambda size: (_row(size), _row(size), _row(size), np.zeros(()), np.ones(())),
    "grid_error_sums": lambda size: (_row(size), _row(size).astype(np.int8), *GRID),
}
"""Kernel -> arguments whose first is an array of so many elements."""


@pytest.mark.parametrize("name", kernels.CROSSOVER)
def test_every_kernel_is_chosen_by_name_and_by_size(name, monkeypatch):
    monkeypatch.setattr(compiled, name, lambda *args: "twin")
    definition, kernel = getattr(reference, name), getattr(kernels, name)
    few, many = (ARGUMENTS[name](kernels.CROSSOVER[name] - missing) for missing in (1, 0))
    assert bits(kernel(*few)) == bits(definition(*few))
    assert kernel(*many) == "twin"
    with kernels.using("numpy"):
        assert bits(kernel(*many)) == bits(definition(*many))
    with kernels.using("numba"):
        assert kernel(*few) == "twin"


def test_the_array_counts_by_its_keyword_too(monkeypatch):
    monkeypatch.setattr(compiled, "min_max", lambda *, x: "twin")
    assert kernels.min_max(x=np.ones(999, np.float32)) == (1, 1, 0, 0)
    assert kernels.min_max(x=np.ones(1000, np.float32)) == "twin"


@pytest.mark.parametrize("choice", ["auto", "numpy", "numba"])
def test_a_call_without_an_array_is_refused_as_by_the_function_that_runs(choice):
    with kernels.using(choice):
        with pytest.raises(TypeError, match=r"^min_max\(\) missing 1 required positional argument: 'x'$"):
            kernels.min_max()
        with pytest.raises(AttributeError, match=r"^'list' object has no attribute 'dtype'$"):
            kernels.min_max([1.0])


@pytest.mark.parametrize("name", kernels.CROSSOVER)
def test_a_kernel_is_its_definition_to_whoever_reads_it(name):
    kernel, definition = getattr(kernels, name), getattr(reference, name)
    assert pickle.loads(pickle.dumps(kernel)) is kernel
    assert (kernel.__name__, kernel.__doc__) == (name, definition.__doc__)
    assert get_type_hints(kernel) == get_type_hints(definition)
    shown = pydoc.plain(pydoc.render_doc(kernel))
    assert shown.startswith(f"Python Library Documentation: function {name} in module quantlab.kernels\n\n{name}(")
    assert all(part in shown for part in (definition.__doc__.splitlines()[0], "Args:", "Returns:", "Raises:"))


def test_numba_is_imported_at_the_first_call_on_a_large_array_only():
    code = """
import sys, numpy as np
from quantlab import kernels
assert "numba" not in sys.modules
kernels.min_max(np.ones(10, np.float32))
assert "numba" not in sys.modules
kernels.min_max(np.ones(100_000, np.float32))
assert "numba" in sys.modules
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_everything_works_without_numba():
    code = (
        WITHOUT_NUMBA
        + """
import numpy as np
from quantlab import kernels
x = np.linspace(-1, 1, 100_000, dtype=np.float32)
assert kernels.active().__name__ == "quantlab_kernels.reference"
assert kernels.min_max(x)[:2] == (-1, 1)
q = kernels.quantize(x, 0.01, 0, -128, 127, np.int8)
assert kernels.dequantize(q, 0.01, 0).tobytes() == kernels.fake_quant(x, 0.01, 0, -128, 127).tobytes()
assert kernels.histogram(x, -1, 1, 10).sum() == x.size
"""
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["context", "variable"])
def test_asking_for_numba_without_it_says_how_to_install_it(how):
    code = (
        WITHOUT_NUMBA
        + """
import numpy as np
from quantlab import kernels
from quantlab.errors import OptionError
try:
"""
    )
    body = {
        "context": "    with kernels.using('numba'): pass\n",
        "variable": "    kernels.min_max(np.ones(3, np.float32))\n",
    }[how]
    code += body + "except OptionError as error:\n    print(error)\n"
    done = python(code, QUANTLAB_KERNELS="numba" if how == "variable" else "")
    assert done.stdout.strip() == (
        "the Numba kernels are asked for but Numba cannot be imported; install it with "
        "pip install 'quantlab-onnx[numba]', or choose QUANTLAB_KERNELS=auto or numpy"
    ), done.stderr


def test_without_a_writable_cache_folder_the_twins_still_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file, so no folder can be made below it")
    code = """
import numpy as np
from quantlab import kernels
with kernels.using("numba"):
    assert kernels.min_max(np.ones(3, np.float32)).lo == 1
"""
    done = python(code, NUMBA_CACHE_DIR=str(blocked / "below"))
    assert done.returncode == 0, done.stderr
