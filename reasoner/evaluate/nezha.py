"""Evaluation on TrainTicket faults recorded by the Nezha authors: which are found, when, and which alarms are false.

Found: an insight at the faulty service, or at a service that calls it directly, whose window touches [injection - 90 s,
injection + 120 s]. False alarm: an insight that opens in a normal interval, or before injection - 90 s, or at a service
on no call path with the faulty one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from jobs.graph import GraphConfig
from operators.emission import EmissionConfig
from reasoner.clients.insight_topic import last_revisions
from reasoner.errors import WrongUse
from reasoner.evaluate.result import Result
from reasoner.recordings.read import BadLines, read
from reasoner.recordings.reshape import dump, rechunk, shifted
from reasoner.runs.local_run import LocalRun
from state_schemas.contracts.insight import Insight, to_json
from state_schemas.contracts.tables import RollupRow
from state_schemas.telemetry.spans import SpanColumns
from udfs.otlp.decoder import SpanDecoder
from udfs.spans.sketches import sum_by_code
from udfs.stats.duration_histogram import quantile_ns, unpack

BEFORE_MS: Final = 90_000
AFTER_MS: Final = 120_000
SIGNAL_OF: Final = {
    "error_pattern_new": "logs",
    "error_pattern_returned": "logs",
    "error_pattern_surge": "logs",
    "pattern_missing": "logs",
}
LATENCY_FAULTS: Final = ("network_delay", "cpu_contention")


@dataclass(frozen=True, slots=True)
class Fault:
    """An injected fault. at_ms: time of injection, epoch ms."""

    id: str
    service: str
    kind: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordedInterval:
    """An interval of recorded files without a gap. faults: ids of the faults inside; none in a normal interval."""

    start_ms: int
    end_ms: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """The injected faults, the recorded intervals, and the calls as (caller, callee)."""

    faults: tuple[Fault, ...]
    intervals: tuple[RecordedInterval, ...]
    calls: frozenset[tuple[str, str]]

    def callers(self, service: str) -> set[str]:
        return {caller for caller, callee in self.calls if callee == service}

    def on_path_with(self, service: str) -> set[str]:
        """Return the services that call this one, directly or not, or that it calls, and the service itself."""
        return _reach(service, self.calls) | _reach(service, {(b, a) for a, b in self.calls}) | {service}


def evaluate(data: Path, rechunk_by_pod: bool, shift_ms: int, dump_folder: Path | None) -> Result:
    """Return scores over all days of the folder, in the order of time; state is kept between days.

    shift_ms: all times are moved by so many ms.
    """
    truth = _later(truth_of(data), shift_ms)
    detected = _detect(data, rechunk_by_pod, shift_ms, dump_folder)
    setting = "rechunk pod" if rechunk_by_pod else "as recorded"
    return _score(truth, detected, f"{setting}, {shift_ms} ms later" if shift_ms else setting)


def found_faults(data: Path, truth: Truth) -> dict[str, str]:
    """Return by fault the kind of insight by which it was found, "" if it was not found."""
    detected = _detect(data, rechunk_by_pod=False, shift_ms=0, dump_folder=None)
    rows = (_fault_row(truth, fault, detected) for fault in truth.faults)
    return {row["fault"]: row["kind"] for row in rows}


def days_of(data: Path) -> list[Path]:
    """Return the folders of recorded days, in the order of time."""
    return sorted(path for path in data.iterdir() if path.is_dir())


class Detected(NamedTuple):
    """The insights, and the answers of each service in windows of 10 s."""

    insights: list[Insight]
    answers: dict[str, list[RollupRow]]


def _later(truth: Truth, by_ms: int) -> Truth:
    return Truth(
        tuple(replace(fault, at_ms=fault.at_ms + by_ms) for fault in truth.faults),
        tuple(replace(part, start_ms=part.start_ms + by_ms, end_ms=part.end_ms + by_ms) for part in truth.intervals),
        truth.calls,
    )


def _detect(data: Path, rechunk_by_pod: bool, shift_ms: int, dump_folder: Path | None) -> Detected:
    run = LocalRun(GraphConfig(emission=EmissionConfig(emit_when="final")))
    messages = read(days_of(data), BadLines())
    if shift_ms:
        messages = shifted(messages, shift_ms)
    if rechunk_by_pod:
        messages = rechunk(messages)
    if dump_folder is not None:
        dump(messages, dump_folder)
        messages = read([dump_folder], BadLines())
    bodies: list[bytes] = []
    answers: dict[str, list[RollupRow]] = {}
    for out in run.run(messages):
        if isinstance(out, Insight):
            bodies.append(to_json(out))
        elif isinstance(out, RollupRow) and (out.dimension, out.resolution_s) == ("service", 10):
            answers.setdefault(out.service, []).append(out)
    return Detected(last_revisions(bodies), answers)


def truth_of(data: Path) -> Truth:
    """Return the truth of faults.json and recorded.json and the calls in the traces. Raises WrongUse without files."""
    if not (data / "faults.json").exists():
        message = f"{data} has no faults.json; expected the folder of the Nezha TrainTicket recordings"
        raise WrongUse(message)
    faults = tuple(
        Fault(fault["id"], fault["service"], fault["type"], fault["injected_at_unix_nano"] // 1_000_000)
        for fault in json.loads((data / "faults.json").read_text())
    )
    intervals: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for file in json.loads((data / "recorded.json").read_text()):
        if ".traces." in file["file"]:
            intervals.setdefault((file["file"].partition("/")[0], file["stretch"]), []).append(file)
    found = tuple(
        RecordedInterval(
            min(file["start_unix_nano"] for file in files) // 1_000_000,
            max(file["end_unix_nano"] for file in files) // 1_000_000,
            tuple(sorted({fault for file in files for fault in file["faults"]})),
        )
        for files in intervals.values()
    )
    return Truth(faults, tuple(sorted(found, key=lambda interval: interval.start_ms)), frozenset(_calls(data)))


def _calls(data: Path) -> Iterator[tuple[str, str]]:
    """Yield (caller, callee) for each span whose parent, on the same day, belongs to another service."""
    for day in days_of(data):
        service_of: dict[bytes, str] = {}
        parents: list[tuple[str, bytes]] = []
        decoder = SpanDecoder()
        for message in read([day], BadLines()):
            if message.topic_kind != "traces":
                continue
            spans = decoder.decode(message.value)
            assert isinstance(spans, SpanColumns), "a recorded message cannot be decoded"
            services = [resource.service for resource in spans.resources]
            for index, resource in enumerate(spans.resource):
                service_of[spans.span_id[index].tobytes()] = services[resource]
                parents.append((services[resource], spans.parent_span_id[index].tobytes()))
        for service, parent in parents:
            caller = service_of.get(parent)
            if caller is not None and caller != service:
                yield caller, service


def _reach(start: str, edges: frozenset[tuple[str, str]] | set[tuple[str, str]]) -> set[str]:
    found, waiting = set[str](), [start]
    while waiting:
        here = waiting.pop()
        new = {target for source, target in edges if source == here} - found
        found |= new
        waiting += new
    return found


def _score(truth: Truth, detected: Detected, setting: str) -> Result:
    insights = detected.insights
    rows = [_fault_row(truth, fault, detected) for fault in truth.faults]
    alarms = [insight for insight in insights if false_reason(truth, insight)]
    hours = sum(interval.end_ms - interval.start_ms for interval in truth.intervals) / 3_600_000
    of_latency = [row for row in rows if row["type"] in LATENCY_FAULTS]
    scores = {
        "latency_recall": _share(sum(row["found"] for row in of_latency), len(of_latency)),
        "recall": _share(sum(row["found"] for row in rows), len(rows)),
        "precision": _share(len(insights) - len(alarms), len(insights)),
        "false_alarms_per_hour": round(len(alarms) / hours, 3),
        "repeats": float(sum(row["repeats"] for row in rows)),
        "insights": float(len(insights)),
        "hours": round(hours, 3),
    }
    false = [
        {"false_alarm": insight.title, "at_ms": insight.window.start_ms, "why": false_reason(truth, insight)}
        for insight in alarms
    ]
    return Result("nezha", setting, scores, rows + false)


def _fault_row(truth: Truth, fault: Fault, detected: Detected) -> dict[str, Any]:
    near = {fault.service, *truth.callers(fault.service)}
    touching = [i for i in detected.insights if i.service in near and _touches(i, fault.at_ms)]
    episodes = {(insight.service, insight.kind) for insight in touching}
    # An insight that was already open is taken only if none opens near the injection.
    first = min(touching, key=lambda i: (i.window.start_ms < fault.at_ms - BEFORE_MS, i.window.start_ms), default=None)
    signal = SIGNAL_OF.get(first.kind, "traces") if first else ""
    return {
        "fault": fault.id,
        "type": fault.kind,
        "service": fault.service,
        "found": bool(touching),
        "kind": first.kind if first else "",
        "at": first.service if first else "",
        "signal": first.subject if first and first.kind == "telemetry_gap" else signal,
        "says": first.title if first else "",
        "after_s": (first.window.start_ms - fault.at_ms) / 1000 if first else None,
        "why_not": "" if first else _why_not(fault, detected.answers.get(fault.service, [])),
        "repeats": len(touching) - len(episodes),
    }


def _why_not(fault: Fault, answers: list[RollupRow]) -> str:
    """Describe the answers of the service in two minutes from the injection on, and in two minutes before it."""
    near = [row for row in answers if row.span_kind == "server" and abs(row.window_start_ms - fault.at_ms) <= AFTER_MS]
    after = [row for row in near if row.window_start_ms >= fault.at_ms]
    before = [row for row in near if row.window_start_ms < fault.at_ms]
    found = f"{_described(after)} after, {_described(before)} before"
    return f"nothing unusual in its traces ({found}), nor in its lines or calls"


def _described(answers: list[RollupRow]) -> str:
    if not answers:
        return "no answers"
    bins, counts = (np.concatenate(parts) for parts in zip(*(unpack(row.sketch) for row in answers), strict=True))
    p95_ms = quantile_ns(*sum_by_code(bins, counts), 0.95) / 1e6
    return f"{counts.sum()} answers, P95 {p95_ms:.0f} ms"


def _touches(insight: Insight, at_ms: int) -> bool:
    return insight.window.start_ms <= at_ms + AFTER_MS and insight.window.end_ms >= at_ms - BEFORE_MS


def false_reason(truth: Truth, insight: Insight) -> str:
    """Return why an insight is a false alarm, "" if it is none."""
    at_ms = insight.window.start_ms
    interval = next((s for s in truth.intervals if s.start_ms - 10_000 <= at_ms <= s.end_ms), None)
    if interval is None:
        return "" if insight.kind == "telemetry_gap" else "outside every recorded interval"
    faults = [fault for fault in truth.faults if fault.id in interval.faults]
    if not faults:
        return "normal interval"
    if all(at_ms < fault.at_ms - BEFORE_MS for fault in faults):
        return "before the injection"
    if not any(insight.service in truth.on_path_with(fault.service) for fault in faults):
        return "on no call path with the faulty service"
    return ""


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
