"""Replay of one recording: Flink and the local engine give the same insights, line by line."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from reasoner.recordings.read import BadLines
from reasoner.recordings.reshape import dump
from reasoner.runs.replay import replay_flink, replay_local
from reasoner.traffic import shop
from reasoner.traffic.shop_graph import plan_incident
from state_schemas.contracts.insight import to_json
from tests.services.conftest import skip_unless_set_up
from tests.support.reshaped import Lateness, make_late, shuffle_within, spread

pytestmark = pytest.mark.flink

START_MS = 1_700_000_000_000
DURATION_MS = 6 * 60_000
LATENESS_MS = 120_000
SEED = 7


@dataclass(frozen=True)
class Recording:
    folder: Path
    lateness: Lateness
    lines: list[bytes]


@pytest.fixture(scope="module")
def hard_recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Record six minutes with an incident: 5 % of the spans late, 1 % too late, shuffled, over four partitions."""
    skip_unless_set_up()
    incident = plan_incident(SEED, START_MS, DURATION_MS)
    messages = list(shop.messages(SEED, START_MS, DURATION_MS, incident))
    late, lateness = make_late(
        messages, share_late=0.05, share_too_late=0.01, lateness_ms=LATENESS_MS, age_ms_max=300_000, seed=SEED
    )
    folder = tmp_path_factory.mktemp("recording")
    dump(spread(shuffle_within(late, LATENESS_MS, SEED), 4, SEED), folder)
    lines = [to_json(insight) for insight in replay_local([folder], BadLines(), all_revisions=False)]
    return Recording(folder, lateness, lines)


@pytest.mark.parametrize("parallelism", [1, 4])
def test_flink_prints_the_lines_of_the_local_engine(hard_recording: Recording, parallelism: int) -> None:
    assert hard_recording.lateness.late > 5_000
    assert hard_recording.lateness.too_late > 1_000
    assert hard_recording.lines, "the planted incident must be found, or nothing is compared"
    bad = BadLines()
    insights = replay_flink([hard_recording.folder], bad, print, parallelism=parallelism, all_revisions=False)
    assert [to_json(insight) for insight in insights] == hard_recording.lines
    assert bad.dropped == 0
