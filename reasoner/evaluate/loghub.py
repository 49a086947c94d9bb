"""Evaluation on Loghub: grouping of lines into the events that people found, and order of the most frequent events.

Grouping accuracy (Zhu et al., ICSE-SEIP 2019): the share of the lines whose group is exactly that of the truth. Each
system is one minute of one service, every line an ERROR, sent through the shipped graph with the default settings.
"""

import csv
import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final, NamedTuple

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from reasoner.errors import WrongUse
from reasoner.evaluate.result import Result
from reasoner.recordings.message import Message
from reasoner.runs.local_run import LocalRun
from reasoner.runs.replay import ReplayOptions, settings
from reasoner.traffic.otlp import attributes, request
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.contracts.tables import PatternName, PatternRow
from udfs.logs.reader import LineReader
from udfs.otlp.decoder import decode_logs

START_MS: Final = 1_700_000_040_000  # a full minute
MINUTE_MS: Final = 60_000
TOP: Final = 10
SHUFFLES: Final = 5
_ERROR: Final = SeverityNumber.SEVERITY_NUMBER_ERROR


class System(NamedTuple):
    """Lines of one system and the event of each line."""

    name: str
    lines: tuple[str, ...]
    events: tuple[str, ...]


def evaluate(data: Path) -> Result:
    """Return scores over all systems of the folder. Takes a minute."""
    systems = systems_in(data)
    detail = [_scored(system) for system in systems]
    shuffled = [fmean(_grouped(_shuffled(system, seed))[0] for system in systems) for seed in range(SHUFFLES)]
    grouped = {f"mean_{name}": fmean(row[name] for row in detail) for name in ("ga", "ga_aliased", "ga_drain3")}
    grouped |= {"mean_ga_shuffled_min": min(shuffled), "mean_ga_shuffled_max": max(shuffled)}
    grouped["topk_overlap"] = fmean(row["topk_overlap"] for row in detail)
    scores = {name: round(share, 4) for name, share in grouped.items()} | {"systems": float(len(systems))}
    return Result("loghub", "one setting, Content as body, drain3 with its own", scores, detail)


def grouping_accuracy(groups: Sequence[Hashable], events: Sequence[Hashable]) -> float:
    """Return the share of the lines whose group contains exactly the lines of one event."""
    members: dict[Hashable, set[int]] = {}
    of_event: dict[Hashable, set[int]] = {}
    for line, (group, event) in enumerate(zip(groups, events, strict=True)):
        members.setdefault(group, set()).add(line)
        of_event.setdefault(event, set()).add(line)
    right = sum(len(lines) for lines in members.values() if of_event[events[next(iter(lines))]] == lines)
    return right / len(events)


def top_overlap(ranked: Sequence[tuple[Hashable, int]], events: Sequence[Hashable]) -> float:
    """Return the share of lines of the ten most frequent events that the first ten of `ranked` (event, lines) contain.

    Events as frequent as the tenth count as well, up to ten in total.
    """
    counts = Counter(events)
    frequent = sorted(counts.values(), reverse=True)[:TOP]
    shown = Counter[Hashable]()
    for event, lines in ranked[:TOP]:
        shown[event] += lines
    right = [min(counts[event], lines) for event, lines in shown.items() if counts[event] >= frequent[-1]]
    return sum(sorted(right, reverse=True)[:TOP]) / sum(frequent)


def systems_in(data: Path) -> list[System]:
    """Return the systems of the Loghub samples, by name. Raises WrongUse if there are none."""
    systems = [_read(path) for path in sorted(data.glob("*/*_structured.csv"))]
    if not systems:
        message = f"{data} has no */*_structured.csv; expected the folder of Loghub's 2,000-line samples"
        raise WrongUse(message)
    return systems


def _read(path: Path) -> System:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return System(path.parent.name, tuple(row["Content"] for row in rows), tuple(row["EventId"] for row in rows))


def drain3_miner() -> Any:
    """Return a Drain3 miner with its default settings, which keeps nothing on disk."""
    logging.getLogger("drain3").setLevel(logging.ERROR)
    return TemplateMiner(config=TemplateMinerConfig())


def _shuffled(system: System, seed: int) -> System:
    order = Random(seed).sample(range(len(system.lines)), len(system.lines))
    return System(system.name, tuple(system.lines[n] for n in order), tuple(system.events[n] for n in order))


def _scored(system: System) -> dict[str, Any]:
    accuracy, aliased, rows, ids = _grouped(system)
    miner = drain3_miner()
    peer_ids = [miner.add_log_message(line)["cluster_id"] for line in system.lines]
    majority = {group: Counter[str]() for group in ids}
    for group, event in zip(ids, system.events, strict=True):
        majority[group][event] += 1
    ranked = [
        (majority[row.pattern_id].most_common(1)[0][0] if row.pattern_id in majority else row.pattern_id, row.count)
        for row in sorted(rows, key=lambda row: row.rank)
    ]
    return {
        "system": system.name,
        "ga": round(accuracy, 4),
        "ga_aliased": round(aliased, 4),
        "ga_drain3": round(grouping_accuracy(peer_ids, system.events), 4),
        "topk_overlap": round(top_overlap(ranked, system.events), 4),
        "patterns": len(set(ids)),
        "events": len(set(system.events)),
    }


def _grouped(system: System) -> tuple[float, float, list[PatternRow], list[str]]:
    """Return the accuracy by the ids at reading and by the ids after merging, the top rows of the minute, and ids."""
    messages = _messages(system)
    graph = settings(ReplayOptions().detection).graph()
    outputs = list(LocalRun(graph).run(messages))
    aliases = {out.pattern_id: out.alias_of for out in outputs if isinstance(out, PatternName) and out.alias_of}
    rows = [
        out for out in outputs if isinstance(out, PatternRow) and out.resolution_s == MINUTE_MS // 1000 and out.rank
    ]
    ids = _ids(messages)
    assert {row.pattern_id for row in rows} <= {*ids, *aliases.values()}, "a row's pattern was in no line"
    aliased = [_followed(pattern_id, aliases) for pattern_id in ids]
    return grouping_accuracy(ids, system.events), grouping_accuracy(aliased, system.events), rows, ids


def _ids(messages: Sequence[Message]) -> list[str]:
    """Return the pattern id that the fold gives to each line."""
    reader, found = LineReader(), []
    for message in messages:
        logs = decode_logs(message.value)
        assert not isinstance(logs, Rejected), logs
        found += [read.pattern.pattern_id for read in reader.read(logs.records)]
    return found


def _followed(pattern_id: str, aliases: dict[str, str]) -> str:
    while pattern_id in aliases:
        pattern_id = aliases[pattern_id]
    return pattern_id


def _messages(system: System) -> list[Message]:
    """Return the lines, spread evenly over a minute, one message a second."""
    resource = Resource(attributes=attributes({"service.name": system.name, "deployment.environment.name": "loghub"}))
    seconds: list[list[LogRecord]] = [[] for _ in range(MINUTE_MS // 1000)]
    for number, line in enumerate(system.lines):
        at_ms = number * MINUTE_MS // len(system.lines)
        time_ns, body = (START_MS + at_ms) * 1_000_000, AnyValue(string_value=line)
        seconds[at_ms // 1000].append(LogRecord(time_unix_nano=time_ns, severity_number=_ERROR, body=body))
    return [
        Message("logs", request("logs", [(resource, records)]), START_MS + (second + 1) * 1_000, partition=0)
        for second, records in enumerate(seconds)
        if records
    ]
