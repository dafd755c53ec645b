"""Masks in front of a Softmax are found however they are made, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from quantlab.graph.prepare import NOTE_MASKS, prepare
from tests.graph.builders import build, normal

LOWEST = float(np.finfo(np.float32).min)
CONSTANTS = {
    "never": np.float32(-10000).reshape(()),
    "one": np.float32(1).reshape(()),
    "lowest": np.float32(LOWEST).reshape(()),
    "zero": np.float32(0).reshape(()),
    "axes": np.array([0]),
    "table": np.triu(np.full((4, 4), -np.inf, np.float32), 1),
    "bias": normal(1, 4, 4),
}
MASKS = {
    "one minus": ("i = Sub(one, k) m = Mul(i, never) [n] t = Add(s, m)", "never", "-10000"),
    "mask first": ("i = Sub(one, k) m = Mul(i, never) [n] t = Add(m, s)", "never", "-10000"),
    "a choice, added": ("m = Where(c, zero, lowest) [n] t = Add(s, m)", "lowest", f"{LOWEST:g}"),
    "a choice": ("[n] t = Where(c, s, lowest)", "lowest", f"{LOWEST:g}"),
    "a table": ("u = Unsqueeze(table, axes) v = Squeeze(u, axes) [n] t = Add(s, v)", "table", "-inf"),
}
INPUTS = "float[4,4] s, float[4,4] k, bool[4,4] c"


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_noted(kind: str) -> None:
    nodes, constant, lowest = MASKS[kind]
    model = build(f"g ({INPUTS}) => (float[4,4] y) {{ {nodes} y = Softmax(t) }}", CONSTANTS)
    result = NOTE_MASKS(model)
    operator = "Where" if kind == "a choice" else "Add"
    assert result.notes == (
        f"note-masks: {operator} 'n' masks what a Softmax reads (constant {constant!r} goes down to {lowest}): a grid "
        "that spans it has no steps left for the rest; leave 'n' in float",
    )
    assert result.model == model
    assert any(note.startswith(f"note-masks: {operator} 'n' masks") for note in prepare(model).notes)


NONE = {
    "a bias": "t = Add(s, bias) y = Softmax(t)",
    "no softmax": "t = Add(s, table) y = Relu(t)",
    "a mask of what is multiplied": "p = MatMul(table, s) t = Add(p, s) y = Softmax(t)",
}


@pytest.mark.parametrize("kind", NONE)
def test_other_sums_are_none(kind: str) -> None:
    assert NOTE_MASKS(build(f"g ({INPUTS}) => (float[4,4] y) {{ {NONE[kind]} }}", CONSTANTS)).notes == ()
