"""Thousands of random graphs: prepared, quantized, checked and run.

    python -m benchmarks.random_graphs [--examples 2000] [--seed 0] [--most 60]

Prints the seed and how many graphs were drawn, and ends with the smallest graph that fails, if one does.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.random_graphs import Random, check_prepared, check_quantized, graphs
from tests.test_random_graphs import RECIPES


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_graphs", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=60, help="operators in a graph at most")
    options = parser.parse_args(arguments)
    seen: Counter[str] = Counter()

    @hypothesis.seed(options.seed)
    @settings(
        deadline=None,
        max_examples=options.examples,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs(RECIPES, options.most))
    def check(drawn: Random) -> None:
        check_prepared(drawn)
        check_quantized(drawn)
        seen["graphs"] += 1
        seen["operators"] += len(drawn.steps)

    start = perf_counter()
    print(f"seed {options.seed}, {options.examples:,} examples", flush=True)
    try:
        check()
    finally:
        print(
            f"seed {options.seed}: {seen['graphs']:,} graphs with {seen['operators']:,} operators passed in "
            f"{perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
