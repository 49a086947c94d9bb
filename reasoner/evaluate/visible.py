"""Visibility of recorded faults by signal: an exhaustive search with the whole recording as reference.

For each fault, at the faulty service and its direct callers, all counts are compared: each line by its pattern, each
span by its operation, and answers slower than usual. A fault is visible if the two minutes after the injection differ
from all that was recorded of the service while no fault was on its call paths: by more than chance (two-sample
evidence, with as many tests as there are counts), by a factor of 1.5 at least, and further than any minute of the
reference. The comparison uses the future, which no detector has: the result is a bound, not a detector.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from reasoner.evaluate.nezha import AFTER_MS, Fault, Truth, days_of, found_faults, truth_of
from reasoner.evaluate.result import Result
from reasoner.recordings.read import BadLines, read
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.logs.reader import LineReader
from udfs.logs.template import template_of
from udfs.otlp.decoder import SpanDecoder, decode_logs
from udfs.stats.poisson_change import change_nats

SIGNALS: Final = ("error lines", "other lines", "calls", "latency")
FACTOR: Final = 1.5
NATS: Final = 3.0  # a chance of one in twenty over all counts
MINUTE_S: Final = 60
SLOW_QUANTILE: Final = 0.95

_Seconds = Counter[int]


class Seen(NamedTuple):
    """Counts of a service by second: requests, and the lines, calls and slow answers by (signal, name)."""

    requests: _Seconds
    counts: dict[tuple[str, str], _Seconds]


@dataclass(frozen=True, order=True)
class Difference:
    """A count that differs: evidence in nats, its service, its name, times counted, times expected."""

    nats: float
    at: str
    what: str
    count: int
    expected: float


class _Recorded:
    """The counts of a recording by service, and the templates of its patterns by id."""

    def __init__(self, data: Path) -> None:
        self.services: defaultdict[str, Seen] = defaultdict(lambda: Seen(Counter(), defaultdict(Counter)))
        self.templates: dict[str, str] = {}
        self._answers: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._reader, self._decoder = LineReader(), SpanDecoder()
        for message in read(days_of(data), BadLines()):
            if message.topic_kind == "logs":
                self._add_lines(message.value)
            elif message.topic_kind == "traces":
                self._add_spans(message.value)
        for service, times in self._answers.items():
            slow_ns = float(np.quantile([duration for _, duration in times], SLOW_QUANTILE))
            slow = Counter(second for second, duration in times if duration > slow_ns)
            self.services[service].counts["latency", f"slower than {slow_ns / 1e6:.0f} ms"] = slow

    def _add_lines(self, data: bytes) -> None:
        logs = decode_logs(data)
        assert not isinstance(logs, Rejected), "a recorded message cannot be decoded"
        for record, line in zip(logs.records, self._reader.read(logs.records), strict=True):
            key = ("error lines" if line.severe else "other lines", line.pattern.pattern_id)
            self.templates.setdefault(line.pattern.pattern_id, template_of(line.pattern.texts)[:200])
            self.services[record.resource.service].counts[key][record.time_ns // 10**9] += 1

    def _add_spans(self, data: bytes) -> None:
        spans = self._decoder.decode(data)
        assert not isinstance(spans, Rejected), "a recorded message cannot be decoded"
        seconds = (spans.end_ns // np.uint64(10**9)).tolist()
        durations = (spans.end_ns - spans.start_ns).tolist()
        for place, resource in enumerate(spans.resource.tolist()):
            service = spans.resources[resource].service
            if int(spans.kind[place]) in ENTRY_KINDS:
                self.services[service].requests[seconds[place]] += 1
                self._answers[service].append((seconds[place], durations[place]))
            else:
                self.services[service].counts["calls", spans.names[spans.name[place]]][seconds[place]] += 1


def evaluate(data: Path) -> Result:
    """Return the result; takes minutes, because the recording is read twice, once by the shipped detectors."""
    truth = truth_of(data)
    recorded = _Recorded(data)
    found = found_faults(data, truth)
    rows = [
        _row(truth, fault, recorded) | {"found": bool(found[fault.id]), "found_as": found[fault.id]}
        for fault in truth.faults
    ]
    asked = [row for row in rows if row["type"] in ("exception", "return") and row["visible"]]
    scores = {
        "visible": float(sum(row["visible"] for row in rows)),
        "visible_exception_return": float(len(asked)),
        "visible_recall": round(sum(row["found"] for row in asked) / len(asked), 4) if asked else 0.0,
    }
    return Result("visible", f"factor {FACTOR}, {NATS:g} nats beyond the number of tests", scores, rows)


def markdown(result: Result) -> str:
    """Return the result as a table for people."""
    emitted = result.as_json()
    about = f"""# In which signal each recorded fault is visible

Made by `reasoner evaluate visible --report`; the method is in `reasoner/evaluate/visible.py`. {emitted["setting"]};
{emitted["machine"]}; commit {emitted["commit"]}.

Of {result.scores["visible_exception_return"]:.0f} visible faults of type `exception` and `return` the shipped detectors
find {result.scores["visible_recall"]:.1%}. A cell says how often something was counted in the two minutes from the
injection on, how often it would usually be, and where.

"""
    head = ["fault", "type", "service", *SIGNALS, "found"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in result.detail:
        cells = [row["fault"], row["type"], row["service"]]
        cells += [_cell(row["signals"].get(signal)) for signal in SIGNALS]
        lines.append("| " + " | ".join([*cells, row["found_as"] or "no"]) + " |")
    return about + "\n".join(lines) + "\n"


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['count']} for {found['expected']:.0f} at {found['at'].removeprefix('ts-').removesuffix('-service')}"


def _row(truth: Truth, fault: Fault, recorded: _Recorded) -> dict[str, Any]:
    best: dict[str, Difference] = {}
    for service in sorted({fault.service, *truth.callers(fault.service)}):
        for signal, difference in differences(truth, fault, service, recorded.services[service]):
            best[signal] = max(best.get(signal, difference), difference)
    return {
        "fault": fault.id,
        "type": fault.kind,
        "service": fault.service,
        "visible": bool(best),
        "signals": {
            signal: asdict(one)
            | {
                "nats": round(one.nats, 1),
                "what": recorded.templates.get(one.what, one.what),
                "expected": round(one.expected, 2),
            }
            for signal, one in sorted(best.items())
        },
    }


def differences(truth: Truth, fault: Fault, service: str, seen: Seen) -> Iterator[tuple[str, Difference]]:
    """Yield (signal, difference) of a service with this fault, in any order; see the module."""
    at_s = fault.at_ms // 1000
    interval = next(s for s in truth.intervals if fault.id in s.faults)
    after = range(at_s, min(at_s + AFTER_MS // 1000, interval.end_ms // 1000 + 1))
    minutes = list(_free_minutes(truth, service))
    free = [second for minute in minutes for second in minute]
    requests, requests_free = (sum(seen.requests[second] for second in part) for part in (after, free))
    if not requests or not requests_free:
        return
    needed = NATS + log(len(seen.counts) * len(truth.faults))
    for (signal, name), times in seen.counts.items():
        count, past = (sum(times[second] for second in part) for part in (after, free))
        expected = (past + 0.5) * requests / requests_free
        ratio = max(count, 0.5) / expected
        nats = float(change_nats(np.array([float(count)]), np.array([expected]), np.array([past + 0.5]))[0])
        if nats < needed or 1 / FACTOR < ratio < FACTOR:
            continue
        if not _is_usual(count / requests, minutes, times, seen.requests, len(after)):
            yield signal, Difference(nats, service, name, count, expected)


def _is_usual(rate: float, minutes: list[range], times: _Seconds, requests: _Seconds, seconds: int) -> bool:
    """Return whether the rate is within the rates of reference intervals of the same length, cut at each minute."""
    length = max(1, round(seconds / MINUTE_S))
    rates = []
    for first in range(len(minutes) - length + 1):
        part = [second for minute in minutes[first : first + length] for second in minute]
        asked = sum(requests[second] for second in part)
        if asked >= 3:
            rates.append(sum(times[second] for second in part) / asked)
    return bool(rates) and min(rates) <= rate <= max(rates)


def _free_minutes(truth: Truth, service: str) -> Iterator[range]:
    """Yield the minutes of intervals in which no service on a call path with this one is faulty."""
    kinds = {fault.id: fault for fault in truth.faults}
    for interval in truth.intervals:
        if any(service in truth.on_path_with(kinds[name].service) for name in interval.faults):
            continue
        first_s, end_s = interval.start_ms // 1000, interval.end_ms // 1000
        for start_s in range(first_s, end_s - MINUTE_S + 1, MINUTE_S):
            yield range(start_s, start_s + MINUTE_S)
