"""The small model of every operator: the one of its own test file, found by the operators that are in it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from quantlab.plan.forms import form_of
from quantlab.plan.recipe import Format
from tests.operators import qoperator_cases
from tests.operators.harness import Case, normal

OWN = (
    Case(
        name="top-k",
        text="g (float[3,8] x) => (float[3,2] y, int64[3,2] i) { t = Sigmoid(x) y, i = TopK(t, k) }",
        feeds={"x": (3, 8)},
        constants={"k": np.array([2], np.int64)},
    ),
    Case(
        name="group-norm",
        text="g (float[2,4,6] x) => (float[2,4,6] y) { y = GroupNormalization<num_groups = 2>(x, s, b) }",
        feeds={"x": (2, 4, 6)},
        constants={"s": np.abs(normal(4, seed=1)) + np.float32(0.5), "b": normal(4, seed=2)},
        opset=21,
        op_types=("GroupNormalization",),
    ),
)
"""Operators that have no test file of their own."""

CHOSEN = {
    ("com.microsoft.EmbedLayerNormalization", "QOperator"): "embedding",
    ("ArgMax", "QOperator"): "arg-max",
    ("GlobalAveragePool", "QOperator"): "average",
    ("Where", "QDQ"): "where",
    ("Where", "QOperator"): "where",
}
"""Where the smallest model does not show an operator at work: its inputs must have grids, or its tables be constant."""


@cache
def all_cases() -> tuple[Case, ...]:
    """Return the cases of every file beside this one and those above, the smallest first; then whole graphs."""
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    found = (*OWN, *(case for file in files for case in _cases(file.stem)))
    graphs = (*qoperator_cases.EMBEDDINGS, qoperator_cases.WHERE, *qoperator_cases.GRAPHS)
    names = {case.name for case in graphs}
    single = sorted((case for case in found if case.name not in names), key=lambda case: len(case.model().graph.node))
    return (*single, *graphs)


def _cases(module: str) -> tuple[Case, ...]:
    cases = getattr(importlib.import_module(f"tests.operators.{module}"), "CASES", ())
    return tuple(cases.values()) if isinstance(cases, dict) else tuple(cases)


def case_of(operator: str, kind: Format) -> Case:
    """Return the small model of an operator.

    Raises:
        LookupError: There is none; add one to `CASES` of a test file in this folder.
    """
    name = CHOSEN.get((operator, kind))
    for case in all_cases():
        if case.name == name or (name is None and operator in map(form_of, case.model().graph.node)):
            return case
    raise LookupError(f"no file in tests/operators has a case with {operator}: write one")


def listing(case: Case) -> Case:
    """Return a case in which every operator is asked for by its type."""
    return replace(case, op_types=tuple(dict.fromkeys(node.op_type for node in case.model().graph.node)))
