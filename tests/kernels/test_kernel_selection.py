"""Which kernels run: the context, the environment variable, the size of the array, and a machine without Numba."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from quantlab import kernels
from quantlab.errors import OptionError
from quantlab_kernels import compiled, reference

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


@pytest.mark.parametrize("name", kernels.CROSSOVER)
def test_every_kernel_dispatches_by_choice_and_size(name, monkeypatch):
    ran = []
    for module in (reference, compiled):
        label = module.__name__.rpartition(".")[2]

        def stand_in(*args, out=None, label=label):
            ran.append(label)

        stand_in.__name__ = name
        monkeypatch.setattr(module, name, stand_in)
    few, many = np.zeros(4, np.float32), np.zeros(20_000, np.float32)
    rest = {"min_max": 0, "min_max_axis": 1, "dequantize": 2, "histogram": 3, "lattice_histogram": 3}
    rest |= {"min_max_lattice": 3, "kl_divergences": 1, "mse_curve": 4}
    rest |= {"dequantize_axis": 3, "fake_quant": 4, "fake_quant_axis": 5, "quantize": 5, "quantize_axis": 6}
    rest |= {"dequantize_block": 4, "fake_quant_block": 6, "quantize_block": 7, "quantize_pack_4bit": 2}
    rest |= {"error_sums": 4, "grid_error_sums": 5}
    call = getattr(kernels, name)
    others = [0] * rest[name]
    call(few, *others)
    call(many, *others)
    with kernels.using("numpy"):
        call(many, *others)
    with kernels.using("numba"):
        call(few, *others)
    assert ran == ["reference", "compiled", "reference", "compiled"]


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
