"""A million service names, hostile and broken messages among good ones, every codec: the job counts exactly.

Nothing restarts it, and each message or text that is not as it should be is explained by a counter or a dead letter.
"""

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import last_revisions
from reasoner.recordings.message import Message
from reasoner.recordings.player import Compression, PlayOptions, play
from reasoner.runs import demo
from reasoner.stack import RunningStack
from reasoner.traffic.otlp import ENVIRONMENT, attributes, filled, span_template
from reasoner.waiting import wait_until
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.breaking import memory_mb
from tests.faults.conftest import setting
from tests.faults.hostile_records import Hostile, hostile_records
from tests.services.garbage import Sent, all_garbage, rejections_of, send_garbage
from tests.services.job_runs import (
    PLAN,
    ClusterJob,
    job_config,
    records_in,
    rejected_records,
    shop_messages,
    topics_in,
)
from tests.support.reshaped import spread
from tests.support.wire import delimited, resource_block, scope_head

pytestmark = pytest.mark.faults

HOSTILE_MINUTES = (2, 4, 6, 8)  # of the shop, in each of which every hostile message comes once
MINUTE_MS = 60_000
NAMES_START_MS = PLAN.start_ms + demo.DURATION_MS
STEP_MS = 100
PARTITIONS = 2
NAMES_PER_MESSAGE = 1_000
ENVIRONMENTS = ("canary", "staging")  # not that of the shop
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
        timestamp_ms = NAMES_START_MS + number * STEP_MS
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


def hostile_messages() -> list[Hostile]:
    """Return every hostile message once in each of HOSTILE_MINUTES, in the order of their timestamps."""
    found = []
    for minute in HOSTILE_MINUTES:
        pieces = list(hostile_records(PLAN.start_ms + minute * MINUTE_MS))
        for number, piece in enumerate(pieces):
            timestamp_ms = piece.message.timestamp_ms + number * MINUTE_MS // len(pieces)
            sent = replace(piece.message, timestamp_ms=timestamp_ms, partition=number % PARTITIONS)
            found.append(replace(piece, message=sent))
    return found


def explanations(letters: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str, int]]:
    """Count dead letters by reason, hash of the message and records."""
    return Counter((letter["reason"], letter["sha256"], letter["records"]) for letter in letters)


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


def test_hostile_input(stack: RunningStack, tmp_path: Path, verdict: dict[str, Any]) -> None:
    bootstrap = stack.settings.kafka_bootstrap
    messages = setting("HOSTILE_NAMES", 1_000_000) // NAMES_PER_MESSAGE
    engine = {"checkpoint_interval_ms": 5_000}
    config = job_config("hostile", bootstrap, stack.settings.postgres_jdbc_url, tmp_path, engine=engine)
    job = ClusterJob(config, FlinkRest(stack.settings.flink_rest_url), tmp_path)
    job.prepare(PARTITIONS)
    sent = send_garbage(bootstrap, topics_in(config), all_garbage(PLAN.start_ms), PLAN.start_ms)
    shop, hostile = list(spread(shop_messages(), PARTITIONS, 1)), hostile_messages()

    job = job.started()
    play(
        merge(shop, [piece.message for piece in hostile], key=lambda sent: sent.timestamp_ms),
        bootstrap,
        topics_in(config),
    )
    stream = names(messages)
    for codec, topic_codec in CODECS:
        compress_topic(bootstrap, config.kafka.topics.traces, topic_codec)
        part = islice(stream, -(-messages // len(CODECS)))
        play(part, bootstrap, topics_in(config), PlayOptions(compression=codec))
    codecs = stored_codecs(tmp_path / "stack" / "kafka" / "data" / f"{config.kafka.topics.traces}-0")
    job.wait_until_read(900.0)
    memory = memory_mb(tmp_path / "stack")
    expected = _expected(messages * NAMES_PER_MESSAGE, records_in(shop), sent, hostile)
    rest, job_id = job.rest, job.job_id
    wait_until(
        lambda: expected.counters.items() <= rest.counters(job_id).items(), f"REST shows {expected.counters}", 120.0
    )
    counters, restarts, state = rest.counters(job_id), rest.restarts(job_id), job.state()
    job.drain()

    rollups, severe, letters = job.spans_in_rollups(), job.severe_lines(), job.dead_letters()
    shop_insights = [insight for insight in last_revisions(job.table_bodies()) if insight.env == ENVIRONMENT]
    verdict |= {
        "service_names": messages * NAMES_PER_MESSAGE,
        "hostile_messages": len(hostile),
        "spans_expected": expected.spans,
        "spans_in_rollups": rollups,
        "severe_lines_expected": expected.severe,
        "severe_lines_in_patterns": severe,
        "counters": {name: counters[name] for name in expected.counters},
        "records_rejected": dict(rejected_records(letters)),
        "dead_letters": len(letters),
        "services_overflowed": counters.get("services_overflowed_total", 0),
        "codecs": sorted(codecs),
        "memory_mb": memory,
        "flink_num_restarts": restarts,
    }
    assert (state, restarts) == ("RUNNING", 0)
    assert rollups == dict.fromkeys(RESOLUTIONS_S, expected.spans)
    assert severe == dict.fromkeys((10, 60), expected.severe)
    assert {piece.garbage.name: rejections_of(letters, piece) for piece in sent} == {
        piece.garbage.name: dict(piece.garbage.rejected) for piece in sent
    }
    positions = {(piece.topic, piece.partition, piece.offset) for piece in sent}
    others = (letter for letter in letters if (letter["topic"], letter["partition"], letter["offset"]) not in positions)
    assert explanations(others) == expected.letters
    assert demo.faults(PLAN, shop_insights, shop_insights) == []
    named = PARTITIONS * len(ENVIRONMENTS) * config.detection.services_max
    assert counters["services_overflowed_total"] == messages * NAMES_PER_MESSAGE - named
    assert codecs == set(CODEC_NAMES)
    verdict["pass"] = True


class Expected(NamedTuple):
    """What the job must have counted. letters: of the hostile messages."""

    spans: int
    severe: int
    counters: dict[str, int]
    letters: Counter[tuple[str, str, int]]


def _expected(named: int, shop: Counter[str], sent: Sequence[Sent], hostile: Sequence[Hostile]) -> Expected:
    good = sum(piece.garbage.counted for piece in sent)
    refused = [piece for piece in hostile if piece.rejected]
    reasons = Counter(str(piece.rejected) for piece in refused)
    for piece in sent:
        reasons.update({reason: max(1, number) for reason, number in piece.garbage.rejected.items()})
    records = named + good + shop.total() - shop["severe"] + sum(piece.records for piece in hostile)
    spans = sum(piece.records for piece in hostile if piece.message.topic_kind == "traces")
    return Expected(
        spans=named + good + shop["traces"] + spans,
        severe=shop["severe"] + sum(piece.severe for piece in hostile),
        counters={
            "records_folded_total": records,
            "texts_repaired_total": sum(piece.repaired for piece in hostile),
            "lines_cut_total": sum(piece.cut for piece in hostile),
            **{f"rejected_{reason}_total": number for reason, number in sorted(reasons.items())},
        },
        letters=Counter((str(piece.rejected), sha256(piece.message.value).hexdigest(), 0) for piece in refused),
    )
