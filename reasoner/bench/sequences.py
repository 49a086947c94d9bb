"""Signals per second of sequence rules in Flink: the job of rules alone, with real broker and cluster.

Each span fulfils the first step of a rule, and those that fail the second one of another. So each span is a signal,
while of a real system one in a hundred is.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from reasoner.bench.job import FAST, BenchInput, Sizes, measured
from reasoner.errors import CommandFailed
from reasoner.evaluate.result import Result
from reasoner.traffic.spans import SpanProfile, spans
from udfs.rules.document import RULES_MAX
from udfs.rules.records import SIGNALS_MAX
from udfs.rules.subjects import BUCKETS

STEP_MS: Final = 200  # of event time for each message of 200: a signal a second of each of 1,000 services

# A bundle of the usual 10,000 messages, all spans of which are signals, takes half a minute, and a checkpoint waits.
BUNDLE_SIZE: Final = 1_000

Report = Callable[[str], None]


def bench_sequences(signals: int, services: int, rules: Sequence[int], report: Report) -> Result:
    """Measure signals a second for each of these numbers of rules; takes minutes.

    signals: a multiple of 1,000. Raises CommandFailed where a signal is given up.
    """
    rows = [_row(signals, services, count, report) for count in rules]
    most = max(rows, key=lambda row: row["rules"])
    names = ("signals_per_s", "state_kb_a_bucket", "state_kb_a_service")
    setting = f"{services} services, {', '.join(map(str, rules))} rules"
    return Result("bench sequences", setting, {name: most[name] for name in names}, rows)


def _row(signals: int, services: int, count: int, report: Report) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="reasoner-bench-rules-") as name:
        folder = Path(name)
        for number, text in enumerate(rule_files(count)):
            (folder / f"{number}.yaml").write_text(text)
        profile = SpanProfile(
            services, hosts=1, operations=count, attributes=0, shared_names=True, spans_per_message=SIGNALS_MAX
        )
        messages = signals // SIGNALS_MAX
        start_ms = int(time.time() * 1000) - messages * STEP_MS
        sent = spans(profile, messages, 1, start_ms, STEP_MS)
        given = BenchInput(f"{count} rules", sent, signals, services, job="sequence-rules", rules=folder)
        # Checkpoints of the heap are whole, those of RocksDB what has changed.
        changes = {"state_backend": "hashmap", "bundle_size": BUNDLE_SIZE}
        sizes = Sizes(FAST.stack, FAST.engine.model_copy(update=changes))
        usage, progress, _, counters, matches = measured(given, sizes, profile=False, report=report)
    if lost := counters.get("rule_signals_overflowed_total", 0):
        message = f"{lost} signals were given up: no result"
        raise CommandFailed(message)
    state_kb = progress.state_bytes["record-sequences"] / 1000
    return {
        "rules": count,
        "signals_per_s": round(progress.whole_per_s()),
        "cpu_us_a_signal": round(sum(usage.cpu_s.values()) / signals * 1e6, 1),
        "state_kb_a_bucket": round(state_kb / BUCKETS, 1),
        "state_kb_a_service": round(state_kb / services, 2),
        "matches": matches,
        "given_up": counters.get("partial_matches_given_up_total", 0),
        "checkpoint_ms_max": max(checkpoint.took_ms for checkpoint in progress.checkpoints.values()),
    }


def rule_files(count: int) -> Iterator[str]:
    """Yield files with so many rules: an operation of a service, then the next one fails within half a minute."""
    texts = [_rule(number, count) for number in range(count)]
    for first in range(0, count, RULES_MAX):
        yield "---\n".join(texts[first : first + RULES_MAX])


def _rule(number: int, count: int) -> str:
    return f"""id: rule-{number}
version: 1
title: one operation, then another fails
by: service
within: 30s
steps:
  - {{name: first, span: {{name: operation-{number}}}}}
  - {{name: fails, span: {{name: operation-{(number + 1) % count}, status: error}}}}
"""
