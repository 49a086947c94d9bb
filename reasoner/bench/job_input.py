"""Input of the throughput benchmark: a generated profile or a recording."""

import time
from pathlib import Path
from typing import Final

from reasoner.bench.job import PARTITIONS, BenchInput
from reasoner.errors import WrongUse
from reasoner.recordings.read import BadLines, read, times_ns
from reasoner.recordings.reshape import denser, placed
from reasoner.traffic.spans import SpanProfile, spans
from udfs.otlp.decoder import SpanDecoder

LEAN: Final = SpanProfile()
STEP_MS: Final = 20  # of event time for each message: 1,000 messages are 20 s


def generated(profile: SpanProfile, spans_wanted: int, rate: int | None, seed: int) -> BenchInput:
    """Generate spans of the profile. rate: spans per second, sent while the job runs; None fills the topic before.

    Raises WrongUse if spans_wanted is not a whole number of messages.
    """
    messages, rest = divmod(spans_wanted, profile.spans_per_message)
    if rest:
        message = f"--spans {spans_wanted}: expected a multiple of {profile.spans_per_message}"
        raise WrongUse(message)
    step_ms = STEP_MS if rate is None else 1_000 * profile.spans_per_message // rate
    # Near the current time, so that neither retention nor the bound on future times removes spans.
    start_ms = int(time.time() * 1000) - (messages * step_ms if rate is None else 0)
    size = f"{profile.services} services x {profile.hosts} hosts x {profile.operations} operations"
    name = "lean" if profile == LEAN else size
    pace = "" if rate is None else f", {rate:,} spans/s sent"
    sent = spans(profile, messages, seed, start_ms, step_ms)
    return BenchInput(f"{name}{pace}", sent, spans_wanted, profile.services, paced=rate is not None)


def recorded(folder: Path, spans_wanted: int) -> BenchInput:
    """Read recorded traces, copied until they have at least spans_wanted spans. Raises WrongUse without any span."""
    kept = [message for message in read([folder], BadLines()) if message.topic_kind == "traces"]
    decoder = SpanDecoder()
    count = sum(len(times_ns("traces", message.value, decoder)) for message in kept)
    if not count:
        message = f"{folder} holds no spans; expected what the Collector's file exporter writes"
        raise WrongUse(message)
    times = -(-spans_wanted // count)
    setting = f"recorded {folder.name}, {count} spans, {times} times as dense"
    return BenchInput(setting, placed(denser(kept, times), PARTITIONS), times * count)
