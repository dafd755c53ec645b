"""The screening: pools in which every source is on equally often, and shares that come out right."""

import numpy as np
import pytest

from quantlab.debug.screening import SPARSITY, random_pools, shares_of


def screened(true, runs, samples, rng, respond=lambda power: power):
    pools = np.concatenate([random_pools(len(true), runs, rng) for _ in range(samples)])
    return shares_of(pools, respond(pools @ true))


@pytest.mark.parametrize("runs", [8, 16, 30, 32])
def test_every_source_is_on_equally_often(runs):
    pools = random_pools(50, runs, np.random.default_rng(0))
    assert pools.shape == (runs, 50)
    assert (pools.sum(axis=0) == runs // SPARSITY).all()


@pytest.mark.parametrize(("sources", "samples"), [(40, 8), (500, 8)])
def test_large_sources_come_first_with_their_shares(sources, samples):
    rng = np.random.default_rng(1)
    true = rng.permutation(np.concatenate([[0.5, 0.3, 0.1], np.full(sources - 3, 0.1 / sources)]))
    found = screened(true, 32, samples, rng)
    assert np.argsort(-found)[:3].tolist() == np.argsort(-true)[:3].tolist()
    np.testing.assert_allclose(np.sort(found)[-2:], np.sort(true)[-2:], rtol=0.1)
    assert found.sum() == pytest.approx(true.sum(), rel=0.1)


def test_powers_that_only_nearly_add_up():
    rng = np.random.default_rng(2)
    true = np.geomspace(1, 1e-4, 100)
    found = screened(true, 32, 8, rng, lambda power: power * rng.uniform(0.8, 1.25, power.shape))
    assert set(np.argsort(-found)[:5]) <= set(range(10))


def test_culprits_are_found_where_each_of_them_destroys_everything():
    rng = np.random.default_rng(3)
    true = np.full(300, 1e-4)
    culprits = rng.choice(300, 6, replace=False)
    true[culprits] = 100.0
    found = screened(true, 32, 8, rng, lambda power: np.minimum(power, 1.0))
    assert set(np.argsort(-found)[:6]) == set(culprits)


def test_without_noise_there_are_no_shares():
    pools = random_pools(9, 16, np.random.default_rng(0))
    assert not shares_of(pools, np.zeros(16)).any()
