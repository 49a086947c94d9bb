"""One recording on two mini-clusters at the same time and on the local engine, once a session."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from examples.own_sink.insight_lines import folder_of
from reasoner.clients import lake
from reasoner.clients.insight_topic import last_revisions, read_all
from reasoner.recordings.read import BadLines
from reasoner.recordings.reshape import dump
from reasoner.runs.job_process import job_process
from reasoner.runs.replay import FLINK_DEADLINE_S, ReplayOptions, fill, replay_flink, replay_local, settings
from reasoner.traffic import shop
from reasoner.traffic.shop_graph import Incident
from state_schemas.contracts.insight import Insight
from tests.flink.graph import stages_with_budget
from tests.support.reshaped import Lateness, make_late, shuffle_within, spread

START_MS: Final = 1_700_000_000_000
DURATION_MS: Final = 3 * 60_000
LATENESS_MS: Final = 120_000
SEED: Final = 7
INCIDENT: Final = Incident(
    kind="errors",
    service="users",
    operation=None,
    host=None,
    start_ms=START_MS + 100_000,
    end_ms=START_MS + 160_000,
    factor=0.4,
    affected=("checkout", "frontend"),
)
# Over insights, spans and log records; by services, traces and the environment; with counts, parts, absence and calls.
RULES: Final = """
id: errors-then-ratio
version: 1
title: failing spans, then the ratio is reported
by: service
within: 5m
suppress_ms: 20000
steps:
  - {name: spans, span: {service: users, status: error}, count: ">= 5", within: 20s}
  - {name: lines, log: {service: users, severity: [WARN, ERROR]}, within: 1m}
---
id: one-trace
version: 1
title: a failing span and its line
by: trace
within: 1m
steps:
  - name: both
    all_of:
      - span: {service|startswith: [users, check], status: error}
      - log: {severity_number|gte: 13}
---
id: no-gap
version: 1
title: failing without a gap
by: env
within: 2m
steps:
  - {name: failing, insight: {kind: [error_ratio, error_pattern_new]}}
  - {name: gap, insight: {kind: telemetry_gap}, not_within: 15s}
---
id: caller-fails
version: 1
title: a service and one that calls it
by: env
within: 1m
suppress_ms: 0
steps:
  - {name: failed, span: {service: users, kind: server, status: error}}
  - {name: caller, span: {kind: server, status: error}, calls: $failed}
"""


@dataclass(frozen=True)
class Replays:
    """One recording on both engines.

    - lateness: of the recording.
    - local: by the local engine, with the detector of `examples`.
    - shipped: by `replay_flink` at parallelism 1.
    - extended: by `tests.flink.program` at parallelism 4. sunk: from the files of its additional sink.
    - operators: name and uid of each operator of each job.
    """

    lateness: Lateness
    local: list[Insight]
    shipped: list[Insight]
    extended: list[Insight]
    sunk: list[Insight]
    operators: list[dict[str, Any]]
    bad: BadLines


def record(folder: Path) -> Lateness:
    """Record three minutes with an incident: 5 % of the spans late, 1 % too late, shuffled, over four partitions."""
    messages = list(shop.messages(SEED, START_MS, DURATION_MS, INCIDENT))
    late, lateness = make_late(
        messages, share_late=0.05, share_too_late=0.01, lateness_ms=LATENESS_MS, age_ms_max=300_000, seed=SEED
    )
    dump(spread(shuffle_within(late, LATENESS_MS, SEED), 4, SEED), folder)
    return lateness


@pytest.fixture(scope="session")
def replays(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Replays:
    recording, folder = tmp_path_factory.mktemp("recording"), tmp_path_factory.mktemp("program")
    lateness, bad = record(recording), BadLines()
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    options = ReplayOptions(rules=rules)
    config = settings(options.detection, kafka, 4, folder)
    fill([recording], bad, config)
    lake.create_tables(config.lake)
    with job_process(config, folder, "tests.flink.program") as program:
        shipped = replay_flink([recording], bad, print, options, parallelism=1)
        local = replay_local([recording], bad, options, stages_of=stages_with_budget)
        program.wait(FLINK_DEADLINE_S)
    lines = program.log.read_text().splitlines()
    return Replays(
        lateness,
        local,
        shipped,
        extended=last_revisions(read_all(kafka, config.kafka.topics.insights)),
        sunk=last_revisions(_lines_in(Path(folder_of(config).removeprefix("file://")))),
        operators=[json.loads(line) for line in lines if line.startswith('{"job"')],
        bad=bad,
    )


def _lines_in(folder: Path) -> Iterator[bytes]:
    """Yield the lines of finished files; Flink hides the others with a dot."""
    for path in sorted(folder.glob("[!.]*")):
        yield from path.read_bytes().splitlines()
