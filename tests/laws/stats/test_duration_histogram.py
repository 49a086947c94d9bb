"""Laws of the sketch: quantiles are within 1 % of the exact ones, and sums do not depend on the order."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from udfs.detect.latency.baseline import bin_from, threshold_ns
from udfs.spans.sketches import sum_by_code
from udfs.spans.window import COARSE
from udfs.stats.duration_histogram import (
    BIN_BITS,
    BIN_OVER,
    BIN_UNDER,
    BINS,
    DURATION_NS_MAX,
    DURATION_NS_MIN,
    EDGES_NS,
    RELATIVE_ERROR,
    REPRESENTATIVE_NS,
    bins_of,
    count_from,
    pack,
    quantile_ns,
    unpack,
)

Ints = NDArray[np.int64]
Distribution = Callable[[np.random.Generator, int], NDArray[np.float64]]

DISTRIBUTIONS: dict[str, Distribution] = {
    "constant": lambda random, n: np.full(n, 12_345_678.0),
    "uniform": lambda random, n: random.uniform(1e3, 1e9, n),
    "log-uniform": lambda random, n: 10 ** random.uniform(3, 12.5, n),
    "lognormal": lambda random, n: random.lognormal(17, 1.5, n),
    "exponential": lambda random, n: random.exponential(5e7, n),
    "pareto": lambda random, n: 1e6 * (1 + random.pareto(1.1, n)),
    "two modes": lambda random, n: np.where(random.random(n) < 0.9, 2e6, 3e9) * random.uniform(0.9, 1.1, n),
    "milliseconds": lambda random, n: 1e6 * random.integers(1, 500, n).astype(np.float64),
    "edges": lambda random, n: random.choice(EDGES_NS[:-1], n).astype(np.float64),
    "under edges": lambda random, n: random.choice(EDGES_NS[1:], n).astype(np.float64) - 1,
    "slow tail": lambda random, n: np.where(np.arange(n) % 20 == 0, 3.5e12, 1e3),
}


def durations(distribution: str, seed: int, count: int) -> Ints:
    values = DISTRIBUTIONS[distribution](np.random.default_rng(seed), count)
    return np.clip(values, DURATION_NS_MIN, DURATION_NS_MAX - 1).astype(np.int64)


def sketch(values: Ints) -> tuple[Ints, Ints]:
    return sum_by_code(bins_of(values), np.ones(len(values), np.int64))


def exact_ns(values: Ints, per_mille: int) -> int:
    return int(np.sort(values)[max(1, ceil(Fraction(per_mille, 1000) * len(values))) - 1])


samples = st.builds(durations, st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(0, 2**32), st.integers(1, 3_000))


@given(samples, st.sampled_from((0, 1, 10, 250, 500, 900, 950, 990, 999, 1000)))
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: Ints, per_mille: int) -> None:
    found, exact = quantile_ns(*sketch(values), per_mille / 1000), exact_ns(values, per_mille)
    assert abs(found - exact) <= RELATIVE_ERROR * exact


@pytest.mark.parametrize("distribution", sorted(DISTRIBUTIONS))
def test_quantiles_of_each_distribution_with_many_values(distribution: str) -> None:
    values = durations(distribution, 7, 50_000)
    for per_mille in (500, 950, 990):
        exact = exact_ns(values, per_mille)
        assert abs(quantile_ns(*sketch(values), per_mille / 1000) - exact) <= RELATIVE_ERROR * exact


def test_every_duration_of_every_bin_is_within_one_percent_of_its_representative() -> None:
    low, high = EDGES_NS[:-1], EDGES_NS[1:] - 1
    inner = REPRESENTATIVE_NS[BIN_UNDER + 1 : BIN_OVER]
    assert (np.abs(inner - low) <= RELATIVE_ERROR * low).all()
    assert (np.abs(inner - high) <= RELATIVE_ERROR * high).all()


def test_bins_cover_one_microsecond_to_one_hour_and_fit_their_bits() -> None:
    ends = np.array([0, 999, 1_000, DURATION_NS_MAX - 1, EDGES_NS[-1], 2**63 - 1], np.int64)
    assert bins_of(ends).tolist() == [BIN_UNDER, BIN_UNDER, 1, BIN_OVER - 1, BIN_OVER, BIN_OVER]
    assert EDGES_NS[-1] >= DURATION_NS_MAX
    assert BINS == len(REPRESENTATIVE_NS) <= 1 << BIN_BITS


@given(samples, st.integers(1, 6), st.randoms(use_true_random=False))
def test_sketches_merged_in_any_order_and_grouping_equal_the_sketch_of_all_values(
    values: Ints, parts: int, random: Random
) -> None:
    chunks = [sketch(chunk) for chunk in np.array_split(values, parts) if len(chunk)]
    random.shuffle(chunks)
    merged = chunks[0]
    for bins, counts in chunks[1:]:
        merged = sum_by_code(np.concatenate((merged[0], bins)), np.concatenate((merged[1], counts)))
    for found, expected in zip(merged, sketch(values), strict=True):
        assert np.array_equal(found, expected)


@given(samples)
def test_unpack_is_the_inverse_of_pack(values: Ints) -> None:
    bins, counts = sketch(values)
    again = unpack(pack(bins, counts))
    assert np.array_equal(again[0], bins)
    assert np.array_equal(again[1], counts)
    assert pack(*again) == pack(bins, counts)


def test_bytes_of_a_wrong_length_raise_an_error_with_the_expected_length() -> None:
    with pytest.raises(ValueError, match="sketch of 11 bytes, expected a multiple of 10"):
        unpack(bytes(11))


@given(samples, st.floats(2e3, 1e13))
def test_spans_from_a_bin_on_are_exactly_those_at_least_as_long_as_its_edge(values: Ints, wanted_ns: float) -> None:
    first_bin = int(bin_from(np.array([wanted_ns]))[0])
    assert first_bin % COARSE == 0
    edge_ns, edge_before_ns = threshold_ns(np.array([first_bin, first_bin - COARSE])).tolist()
    assert edge_ns >= wanted_ns or first_bin + COARSE > BIN_OVER
    assert edge_before_ns < wanted_ns
    assert count_from(*sketch(values), first_bin) == int((values >= edge_ns).sum())


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="no bins, expected at least one"):
        quantile_ns(np.zeros(0, np.int64), np.zeros(0, np.int64), 0.5)
