"""A million service names, broken messages and every codec: the job does not restart and counts exactly."""

import os
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.clients.flink_rest import FlinkRest
from reasoner.recordings.message import Message
from reasoner.recordings.player import Compression, PlayOptions, play
from reasoner.stack import RunningStack
from reasoner.stack.process import OWNER_VARIABLE
from reasoner.traffic.otlp import attributes, filled, span_template
from reasoner.waiting import wait_until
from state_schemas.contracts.insight import from_json
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.conftest import setting
from tests.services.garbage import all_garbage, rejections_of, send_garbage
from tests.services.job_runs import ClusterJob, job_config, rejected_records, topics_in
from tests.support.wire import delimited, resource_block, scope_head

pytestmark = pytest.mark.faults

START_MS = 1_700_000_000_000
STEP_MS = 100
PARTITIONS = 2
NAMES_PER_MESSAGE = 1_000
ENVIRONMENTS = ("production", "staging")
# Codec of the producer and of the topic: the broker recompresses for the codecs without a Python library.
CODECS: tuple[tuple[Compression, str], ...] = (
    ("none", "producer"),
    ("gzip", "producer"),
    ("zstd", "producer"),
    ("none", "lz4"),
    ("none", "snappy"),
)
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")  # index: number of the codec in a record batch
BATCH_HEADER = struct.Struct(">qiibih")  # base offset, length, leader epoch, magic, CRC, attributes


def names(messages: int) -> Iterator[Message]:
    """Yield messages that each hold one span of each of 1,000 services that no earlier message has."""
    template = span_template("GET /", Span.SPAN_KIND_SERVER, {}, failed=False)
    scope = scope_head()
    for number in range(messages):
        timestamp_ms = START_MS + number * STEP_MS
        end_ns = timestamp_ms * 1_000_000
        env = ENVIRONMENTS[number // PARTITIONS % len(ENVIRONMENTS)]
        resources = []
        for index in range(NAMES_PER_MESSAGE):
            ordinal = number * NAMES_PER_MESSAGE + index + 1
            ids = (b"", ordinal.to_bytes(8, "big"))
            span = filled(template, ordinal.to_bytes(16, "big"), ids, end_ns - 9_000_000, end_ns)
            record = delimited(2, span.SerializeToString())
            resources.append(resource_block(_resource(env, ordinal), scope, [record]))
        yield Message("traces", b"".join(resources), timestamp_ms, number % PARTITIONS)


_HEADS: dict[str, bytes] = {}


def _resource(env: str, ordinal: int) -> bytes:
    if env not in _HEADS:
        values = attributes({"deployment.environment.name": env, "service.name": "deploy-00000000"})
        fields = b"".join(delimited(1, value.SerializeToString()) for value in values)
        _HEADS[env] = delimited(1, fields)
    return _HEADS[env].replace(b"deploy-00000000", b"deploy-%08d" % ordinal)


def compress_topic(bootstrap: str, topic: str, codec: str) -> None:
    """Set the codec in which the broker stores new messages of a topic; `producer` keeps the codec of the producer."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"compression.type": codec})])
    finally:
        admin.close()


def stored_codecs(partition_folder: Path) -> set[str]:
    """Return the codecs of the record batches in the log files of a partition."""
    found = set()
    for path in partition_folder.glob("*.log"):
        with path.open("rb") as log:
            while len(header := log.read(BATCH_HEADER.size)) == BATCH_HEADER.size:
                _, length, _, magic, _, flags = BATCH_HEADER.unpack(header)
                if magic != 2:
                    break  # behind the last batch: the file is allocated ahead
                found.add(CODEC_NAMES[flags & 7])
                log.seek(length + 12 - BATCH_HEADER.size, os.SEEK_CUR)
    return found


def memory_mb(folder: Path) -> dict[str, int]:
    """Return the resident memory of the processes of the cluster in MB, summed by kind of process."""
    mark = f"{OWNER_VARIABLE}={folder}".encode()
    sums: Counter[str] = Counter()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (process / "environ").read_bytes():
                continue
            command = (process / "cmdline").read_bytes()
            resident_pages = int((process / "statm").read_text().split()[1])
        except OSError:
            continue
        kind = "jobmanager" if b"StandaloneSession" in command else "python" if b"python" in command[:80] else "other"
        kind = "taskmanager" if b"TaskManagerRunner" in command else kind
        sums[kind] += resident_pages * os.sysconf("SC_PAGE_SIZE")
    return {kind: size >> 20 for kind, size in sorted(sums.items())}


def test_hostile_input(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    bootstrap = stack.settings.kafka_bootstrap
    messages = setting("HOSTILE_NAMES", 1_000_000) // NAMES_PER_MESSAGE
    jdbc_url = stack.settings.postgres_jdbc_url
    engine = {"checkpoint_interval_ms": 5_000}
    config = job_config("hostile", bootstrap, jdbc_url, tmp_path, signals=("traces",), engine=engine)
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    garbage = [piece for piece in all_garbage(START_MS) if piece.signal == "traces"]
    sent = send_garbage(bootstrap, topics_in(config), garbage, START_MS)

    job = job.started()
    stream = names(messages)
    for codec, topic_codec in CODECS:
        compress_topic(bootstrap, config.kafka.topics.traces, topic_codec)
        part = islice(stream, -(-messages // len(CODECS)))
        play(part, bootstrap, topics_in(config), PlayOptions(compression=codec))
    codecs = stored_codecs(tmp_path / "stack" / "kafka" / "data" / f"{config.kafka.topics.traces}-0")
    job.wait_until_read(900.0)
    memory = memory_mb(tmp_path / "stack")
    restarts, state = job.rest.restarts(job.job_id), job.state()
    counted = messages * NAMES_PER_MESSAGE + sum(piece.garbage.counted for piece in sent)
    rest, job_id = job.rest, job.job_id
    wait_until(
        lambda: rest.counters(job_id).get("records_folded_total") == counted, f"REST shows {counted} spans", 120.0
    )
    counters = rest.counters(job_id)
    job.drain()

    rollups = job.spans_in_rollups()
    letters = job.dead_letters()
    insights = [from_json(record.value) for record in job.insight_records()]
    verdict |= {
        "service_names": messages * NAMES_PER_MESSAGE,
        "spans_expected": counted,
        "spans_in_rollups": rollups,
        "spans_rejected": dict(rejected_records(letters)),
        "messages_rejected": counters.get("messages_rejected_total", 0),
        "services_overflowed": counters.get("services_overflowed_total", 0),
        "insights": len(insights),
        "codecs": sorted(codecs),
        "memory_mb": memory,
        "flink_num_restarts": restarts,
    }
    assert (state, restarts) == ("RUNNING", 0)
    assert {piece.garbage.name: rejections_of(letters, piece) for piece in sent} == {
        piece.garbage.name: dict(piece.garbage.rejected) for piece in sent
    }
    assert rollups == dict.fromkeys(RESOLUTIONS_S, counted)
    named = PARTITIONS * len(ENVIRONMENTS) * config.detection.services_max
    assert counters["services_overflowed_total"] == messages * NAMES_PER_MESSAGE - named
    assert codecs == set(CODEC_NAMES)
    verdict["pass"] = True
