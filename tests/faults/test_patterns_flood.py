"""A million log lines without common words: all are counted, and the state stays inside its bound."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.message import Message
from reasoner.recordings.player import play
from reasoner.stack import RunningStack
from state_schemas.aggregates.logs import OTHER_PATTERNS
from tests.faults.conftest import setting
from tests.faults.severe_logs import RESOLUTIONS_S, emissions_that_do_not_add_up
from tests.services.job_runs import DRAIN_DEADLINE_S, ClusterJob, job_config, topics_in
from tests.support.wire import delimited, resource_block, resource_head, scope_head
from udfs.logs.reader import LineReader

pytestmark = pytest.mark.faults

START_MS = 1_700_000_040_000
STEP_MS = 1_000
PARTITIONS = 2
SERVICES = ("cart", "checkout", "mail", "payment")
KNOWN = "payment was declined by the bank"  # each service logs this line once in every message
QUIET_MESSAGES = 240  # with known lines alone: longer than the lateness, so that they are known when the flood begins
LINES_PER_SERVICE = 250  # in a message
# State of a service with default settings: measured are 500 kB, and 345 B of each pattern in NoveltyGate.
SERVICE_BYTES_MAX = 640 * 1024 + 1_000 * 512

LETTERS = np.frombuffer(b"ghijklmnopqrstuvwxyz", np.uint8)  # no hexadecimal digits, so nothing is masked
WORD_LETTERS, WORDS = 6, 4
SPREAD = 27_182_819  # has no common factor with the number of possible words, so no word repeats


def lines(first: int, count: int) -> NDArray[np.uint8]:
    """Return `count` lines from number `first` on: (count, length), each row ASCII."""
    spread = np.arange(first * WORDS, (first + count) * WORDS, dtype=np.int64) * SPREAD % len(LETTERS) ** WORD_LETTERS
    letters = spread[:, None] // len(LETTERS) ** np.arange(WORD_LETTERS) % len(LETTERS)
    words = np.full((count * WORDS, WORD_LETTERS + 1), ord(" "), np.uint8)
    words[:, :-1] = LETTERS[letters]
    return words.reshape(count, -1)[:, :-1]


def records(bodies: NDArray[np.uint8], time_ms: int) -> bytes:
    """Return ScopeLogs.log_records fields of severity ERROR, one for each row of bodies."""
    count, length = bodies.shape
    head, _, tail = _record("\0" * length, time_ms).partition(b"\0" * length)
    parts = [np.broadcast_to(np.frombuffer(part, np.uint8), (count, len(part))) for part in (head, tail)]
    return np.hstack((parts[0], bodies, parts[1])).tobytes()


def _record(body: str, time_ms: int) -> bytes:
    record = LogRecord(
        time_unix_nano=time_ms * 1_000_000,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
        body=AnyValue(string_value=body),
    )
    return delimited(2, record.SerializeToString())


def flood(floods: int) -> Iterator[Message]:
    """Yield QUIET_MESSAGES messages of known lines alone, then `floods` messages with new lines as well."""
    scope, heads = scope_head(), [resource_head(service, f"{service}-host") for service in SERVICES]
    for number in range(QUIET_MESSAGES + floods):
        time_ms = START_MS + number * STEP_MS
        resources = []
        for index, head in enumerate(heads):
            written = [_record(KNOWN, time_ms)]
            if number >= QUIET_MESSAGES:
                first = ((number - QUIET_MESSAGES) * len(SERVICES) + index) * LINES_PER_SERVICE
                written.append(records(lines(first, LINES_PER_SERVICE), time_ms))
            resources.append(resource_block(head, scope, written))
        yield Message("logs", b"".join(resources), time_ms + 500, number % PARTITIONS)


def lines_of_each_kind(rows: Sequence[Mapping[str, Any]]) -> dict[int, Counter[str]]:
    """Count the lines in rows of the known pattern, of `other` and of patterns of the flood, by window length in s."""
    found: dict[int, Counter[str]] = {}
    for row in rows:
        kind = "other" if row["pattern_id"] == OTHER_PATTERNS else "known" if row["template"] == KNOWN else "named"
        found.setdefault(row["resolution_s"], Counter())[kind] += row["count"]
    return found


def state_bytes(job: ClusterJob) -> int:
    """Return the size of a savepoint in bytes: all state of the job, each state once."""
    path = job.rest.savepoint(job.job_id, f"file://{job.folder}/savepoints", deadline_s=DRAIN_DEADLINE_S)
    files = Path(path.removeprefix("file:")).rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def test_patterns_flood(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    sample = [bytes(line).decode() for line in lines(0, 10_000)]
    assert len({pattern.pattern_id for pattern in LineReader().patterns(sample)}) == len(sample)
    floods = setting("FLOOD_LINES", 1_000_000) // (LINES_PER_SERVICE * len(SERVICES))
    flooded = floods * LINES_PER_SERVICE * len(SERVICES)
    known = (QUIET_MESSAGES + floods) * len(SERVICES)
    bootstrap, url = stack.settings.kafka_bootstrap, stack.settings.postgres_jdbc_url
    config = job_config("flood", bootstrap, url, tmp_path, signals=("logs",), engine={"checkpoint_interval_ms": 5_000})
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path, "error-patterns")
    job.prepare(PARTITIONS)
    job = job.started()
    stream, sizes = flood(floods), []
    for until in (QUIET_MESSAGES, floods // 2, floods - floods // 2):
        play(islice(stream, until), bootstrap, topics_in(config))
        job.wait_until_read(600.0)
        sizes.append(state_bytes(job))
    rest, job_id = job.rest, job.job_id
    restarts, state = rest.restarts(job_id), job.state()
    checkpointed = rest.get(f"/jobs/{job_id}/checkpoints")["summary"]["state_size"]["max"]
    job.drain()

    rows = lake.read(config.lake, "error_patterns").to_pylist()
    found = lines_of_each_kind(rows)
    names = lake.read(config.lake, "pattern_registry", selected_fields=("service", "pattern_id")).to_pylist()
    registered = Counter(service for service, _ in {(row["service"], row["pattern_id"]) for row in names})
    wrong = emissions_that_do_not_add_up(rows)
    verdict |= {
        "distinct_lines": flooded,
        "known_lines": known,
        "lines_in_rows": {resolution_s: dict(counts) for resolution_s, counts in found.items()},
        "emissions_that_do_not_add_up": len(wrong),
        "patterns_registered": dict(registered),
        "state_bytes": dict(zip(("before_the_flood", "after_half_of_it", "after_all_of_it"), sizes, strict=True)),
        "state_bytes_of_a_service": sizes[-1] // len(SERVICES),
        "checkpoint_bytes_max": checkpointed,
        "flink_num_restarts": restarts,
    }
    assert (state, restarts) == ("RUNNING", 0)
    assert {resolution_s: counts.total() for resolution_s, counts in found.items()} == dict.fromkeys(
        RESOLUTIONS_S, flooded + known
    )
    assert [counts["known"] for counts in found.values()] == [known, known], "the flood hides a pattern that is known"
    assert wrong == []
    assert max(registered.values()) <= config.detection.patterns_max
    before, middle, end = sizes
    assert before < middle, "no state of the flood is kept: the test proves nothing about a bound"
    assert end < 1.5 * middle, "the state grows with the lines"  # the number of waiting windows varies by chance
    assert end - before < len(SERVICES) * SERVICE_BYTES_MAX
    verdict["pass"] = True
