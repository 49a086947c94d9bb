"""Arithmetic of the throughput benchmark: the interval that counts, its rate, and the limiting resource."""

import pytest

from reasoner.bench.job import Checkpoint, Progress, limit
from reasoner.errors import CommandFailed


def progress(rate: int, until_s: int, checkpoints: list[tuple[int, int]]) -> Progress:
    """Return progress of `rate` spans a second from 10 s to until_s. checkpoints: (trigger time, duration) in s."""
    samples = [(second * 1_000, rate * max(0, min(second, until_s) - 10)) for second in range(0, until_s + 20, 2)]
    completed = {
        number: Checkpoint(at_s * 1_000, took_s * 1_000, 1) for number, (at_s, took_s) in enumerate(checkpoints, 1)
    }
    return Progress(samples, completed)


def test_neither_the_start_nor_the_end_is_in_the_rate() -> None:
    """The first checkpoint ends at 15 s, the last before the end of the input at 46 s; one comes after it."""
    seen = progress(1_000, 50, [(11, 4), (21, 5), (41, 5), (51, 2)])
    assert seen.steady_ms() == (15_000, 46_000)
    assert seen.steady_spans_per_s() == pytest.approx(1_000)


def test_one_checkpoint_gives_no_steady_interval() -> None:
    with pytest.raises(CommandFailed, match="1 checkpoints while the topic was read"):
        progress(1_000, 30, [(12, 4), (40, 2)]).steady_ms()


def test_the_profile_is_of_the_steady_state_and_names_the_busiest_stage() -> None:
    seen = progress(1_000, 50, [(11, 4), (41, 5)])
    worker = ("python workers", "python")
    seen.profile = [
        (at_s * 1_000, {worker: 0.9 * at_s}, {"fold": (400 * at_s, 0, 1_000 * at_s), "pairs": (0, 0, 1_000 * at_s)})
        for at_s in range(0, 60, 2)
    ]
    first, *rows = seen.steady_profile()
    assert (first["busiest_stage"], first["busy"]) == ("fold", 0.4)
    assert {"stage": "pairs", "busy": 0.0, "backpressured": 0.0} in rows
    assert {"process": "python workers", "threads": "python", "cores": 0.9} in rows


@pytest.mark.parametrize(("used", "by"), [(1.9, "CPU: 1.90 of 2 cores"), (1.0, "stage")])
def test_full_cores_are_the_limit_instead_of_a_stage(used: float, by: str) -> None:
    assert limit([{"stage": "fold", "busy": 0.5}], used, cores=2)["limited_by"] == by
