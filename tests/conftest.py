"""How Hypothesis draws examples: the same ones for the same code, or new ones each time with `nox -s explore`.

A check of a commit says something about the commit only if it says the same twice. What is found by exploring is fixed
and kept as a test of its own.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Machines are shared: how long an example takes says nothing about it.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile(
    "explore", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
