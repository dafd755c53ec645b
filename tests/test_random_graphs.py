"""A few random graphs of all kinds in every run; `python -m benchmarks.random_graphs` draws thousands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings

import quantlab
from tests.operators.harness import INT8, INT8_CHANNELS, SYMMETRIC, U8S8_CHANNELS, UINT8_CHANNELS
from tests.random_graphs import SUFFIXES, Random, check_prepared, check_quantized, graphs

RECIPES = tuple(scheme.recipe() for scheme in (INT8, INT8_CHANNELS, UINT8_CHANNELS, SYMMETRIC))
ON_INTEGERS = tuple(replace(scheme.recipe(), format="QOperator") for scheme in (U8S8_CHANNELS, UINT8_CHANNELS))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(deadline=None, max_examples=20, suppress_health_check=QUIET)
@given(graphs(RECIPES))
def test_preparing_keeps_the_outputs(drawn: Random) -> None:
    check_prepared(drawn)


@settings(deadline=None, max_examples=15, suppress_health_check=QUIET)
@given(graphs(RECIPES))
def test_quantized_graphs_are_valid_run_and_do_not_depend_on_the_order_of_the_file(drawn: Random) -> None:
    check_quantized(drawn)


@settings(deadline=None, max_examples=10, suppress_health_check=QUIET)
@given(graphs(ON_INTEGERS))
def test_graphs_on_integers_are_valid_run_and_do_not_depend_on_the_order_of_the_file(drawn: Random) -> None:
    check_quantized(drawn)


def test_every_suffix_that_quantlab_appends_is_tried() -> None:
    source = Path(quantlab.__file__).parent
    text = "".join(path.read_text() for room in ("graph", "rewrite") for path in (source / room).rglob("*.py"))
    found = set(re.findall(r'fresh\(f"\{\w+\}(?:\{\w+\})?(_[A-Za-z]\w*)"\)', text))
    assert {"_DequantizeLinear_Output", "_scale", "_quantized"} <= found
    assert found <= set(SUFFIXES)
