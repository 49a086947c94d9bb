"""Explanation of log records and exceptions of spans: messages in, one row for each record, and lines of rows, out.

The functions are those that the job's folds call, so a row agrees with the job on the same bytes.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from jobs.settings import load
from operators.ingest.fold import FoldConfig, place_records
from reasoner.errors import WrongUse
from reasoner.recordings.read import BadLine, kept_timestamp_ms, raw_values
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.state.log_patterns import Registered
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.metrics import MetricPoint
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns
from udfs.detect.log_patterns.registry import canonical, register
from udfs.logs.masking.masker import MaskName
from udfs.logs.reader import LineReader, ReadLine
from udfs.logs.span_exceptions import exception_record
from udfs.logs.template import merge_texts, template_of
from udfs.otlp.decoder import Records, SpanDecoder, decode_records
from udfs.otlp.signal import signal_of
from udfs.otlp.span_scanner_kernels import EXCEPTIONS_MAX
from udfs.spans.message import fold_spans

RAW_SUFFIX: Final = ".bin"
EXCEPTIONS_OVERFLOWED: Final = "exceptions_overflowed"  # name of the metric in which the job counts them
_BEYOND: Final = f"found more exceptions of one span, expected at most {EXCEPTIONS_MAX}; the first ones count"
_NS_PER_MS: Final = 1_000_000
_Records = Records[LogRecord] | Records[MetricPoint]


@dataclass(frozen=True, slots=True)
class Explained:
    """A log record (signal `logs`) or an exception of a span (`traces`) as the job counts it; the fields of its JSON.

    - severity_number: of OpenTelemetry, 0 if none is given.
    - exception_type: "" without an exception.
    - pattern_id, template: of the pattern under which its service counts it when the whole file is known.
    - masked: the masks that replaced a part of its line.
    - line: masked; "" below WARN, where no line is kept.
    - cut: whether only the beginning of its line or stack trace is read, because it is longer than the bound.
    - texts_repaired: number of texts in its message that were not UTF-8; their invalid bytes are U+FFFD.
    """

    service: str
    env: str
    severity_number: int
    warning_or_worse: bool
    event_name: str
    exception_type: str
    pattern_id: str
    template: str
    masked: tuple[MaskName, ...]
    line: str
    signal: SignalType
    namespace: str
    cut: bool
    texts_repaired: int


@dataclass(frozen=True, slots=True)
class NotCounted:
    """Records of one message that are only counted as rejected.

    - signal: of the message: its records are log records, spans or metric points.
    - reason: one of docs/rejected.md, or EXCEPTIONS_OVERFLOWED, whose records are exceptions of spans.
    - detail: for people, without payload.
    - records: 0 if the message could not be read at all.
    """

    signal: SignalType
    reason: str
    detail: str
    records: int


class _Registry(NamedTuple):
    """The key of a registry: a service, with its log records (`logs`) apart from exceptions of spans."""

    signal: SignalType
    env: str
    namespace: str
    service: str


class _Line(NamedTuple):
    """A record that waits until all patterns of its registry are known."""

    registry: _Registry
    event_name: str
    read: ReadLine
    texts_repaired: int


class Explainer:
    """An explainer of messages, one after the other. Its memory grows with their records. It belongs to one thread.

    messages_read: number of messages that are OTLP requests, also if none of their records counts.
    """

    def __init__(self, config: FoldConfig) -> None:
        self.messages_read = 0
        self._config = config
        self._reader = LineReader(config.masks)
        self._rows: list[_Line | NotCounted] = []

    def add(self, data: bytes, timestamp_ms: int | None = None) -> None:
        """Read one message with any bytes. Never raises on bad bytes.

        timestamp_ms: Kafka's, epoch ms; without it the newest event time in the message, as in a replay.
        """
        signal = signal_of(data)
        rejected: Sequence[Rejected]
        match self._decoded(signal, data):
            case Rejected() as fault:
                rejected = (fault,)
            case SpanColumns() as spans:
                rejected = self._add_spans(spans, timestamp_ms)
            case records:
                rejected = self._add_records(signal, records, timestamp_ms)
        self._rows += (NotCounted(signal, fault.reason, fault.detail, fault.records) for fault in rejected)

    def rows(self) -> Iterator[Explained | NotCounted]:
        """Yield a row for each record that counts, and for each reason for which records of a message do not count.

        Order: that of `add`; for a message its records in their order, then the reasons. Pattern ids are those of all
        records added so far, as if they came at once; no pattern is evicted.
        """
        known = _registered(row for row in self._rows if isinstance(row, _Line))
        for row in self._rows:
            yield row if isinstance(row, NotCounted) else self._explained(row, known[row.registry])

    @cached_property
    def _decoder(self) -> SpanDecoder:
        return SpanDecoder(self._config.decode)  # loads the compiled scanner, so it is created only when needed

    def _decoded(self, signal: SignalType, data: bytes) -> SpanColumns | _Records | Rejected:
        if signal == "traces":
            return self._decoder.decode(data)
        return decode_records(data, signal, self._config.decode)

    def _add_records(self, signal: SignalType, found: _Records, timestamp_ms: int | None) -> Sequence[Rejected]:
        """Add log records; data points are only checked, and not explained."""
        self.messages_read += 1
        records: Sequence[LogRecord | MetricPoint] = found.records
        sent_ms = _sent_ms(timestamp_ms, (record.time_ns for record in records))
        placed = place_records(signal, records, sent_ms, self._config.times)
        counted = (records[place.number] for place in placed.places)
        self._add_lines(signal, [record for record in counted if isinstance(record, LogRecord)], found.texts_repaired)
        return placed.rejected

    def _add_spans(self, spans: SpanColumns, timestamp_ms: int | None) -> Sequence[Rejected]:
        self.messages_read += 1
        at = KafkaPosition("", 0, 0, _sent_ms(timestamp_ms, spans.end_ns.tolist()))
        found = fold_spans(spans, at, self._config.times)
        counted = [exception for exception in spans.exceptions if found.counted[exception.span]]
        self._add_lines("traces", [exception_record(spans, item) for item in counted], spans.texts_repaired)
        if spans.exceptions_beyond:
            self._rows.append(NotCounted("traces", EXCEPTIONS_OVERFLOWED, _BEYOND, spans.exceptions_beyond))
        return found.rejected

    def _add_lines(self, signal: SignalType, records: Sequence[LogRecord], texts_repaired: int) -> None:
        for record, read in zip(records, self._reader.read(records), strict=True):
            registry = _Registry(signal, record.resource.env, record.resource.namespace, record.resource.service)
            self._rows.append(_Line(registry, record.event_name, read, texts_repaired))

    def _explained(self, line: _Line, known: dict[str, Registered]) -> Explained:
        read, pattern = line.read, line.read.pattern
        # The job keeps no registry of lines below WARN: each is counted under its own pattern.
        pattern_id = canonical(known, pattern.pattern_id, pattern.texts) if read.severe else pattern.pattern_id
        texts = known[pattern_id].texts if read.severe else pattern.texts
        return Explained(
            service=line.registry.service,
            env=line.registry.env,
            severity_number=read.severity,
            warning_or_worse=read.severe,
            event_name=line.event_name,
            exception_type=read.exception_type,
            pattern_id=pattern_id,
            template=template_of(texts),
            masked=self._reader.masks_in(read.masked_line),
            line=read.line,
            signal=line.registry.signal,
            namespace=line.registry.namespace,
            cut=read.cut,
            texts_repaired=line.texts_repaired,
        )


def _registered(lines: Iterable[_Line]) -> dict[_Registry, dict[str, Registered]]:
    """Register the severe patterns of each registry, by id, with the wider patterns into which they were merged."""
    found: dict[_Registry, dict[str, Registered]] = {}
    for line in lines:
        new = found.setdefault(line.registry, {})
        if line.read.severe:
            pattern_id, _, texts = line.read.pattern
            before = new.get(pattern_id)
            new[pattern_id] = Registered(merge_texts(before.texts, texts) if before else texts, 0, 0, 0)
    return {registry: register({}, new, sys.maxsize).entries for registry, new in found.items()}


def _sent_ms(timestamp_ms: int | None, times_ns: Iterable[int]) -> int:
    return max(times_ns, default=0) // _NS_PER_MS if timestamp_ms is None else timestamp_ms


def fold_config(path: Path | None) -> FoldConfig:
    """Return the masks and time limits of a job's file, or those of a job without settings. Raises BadConfig."""
    return load(path).graph().fold if path else FoldConfig()


def add_messages(explainer: Explainer, file: Path) -> BadLine | None:
    """Add the messages of the file to the explainer. -> the position from which the file could not be read, if any."""
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "no such file"
        message = f"{file}: {found}; expected a file of OTLP/JSON lines, or the bytes of one message as {RAW_SUFFIX}"
        raise WrongUse(message)
    if file.suffix == RAW_SUFFIX:
        try:
            explainer.add(file.read_bytes())
        except OSError as error:
            return BadLine(file.name, 1, f"the file cannot be read: {error}")
        return None
    faults: list[BadLine] = []
    for _, value in raw_values(file, file.name, faults.append):
        explainer.add(value, kept_timestamp_ms(value))
    return faults[0] if faults else None


def json_lines(rows: Iterable[Explained | NotCounted]) -> Iterator[str]:
    """Yield a JSON object for each row."""
    # ASCII only: control characters and incomplete letters in a line must neither control a terminal nor break a pipe.
    for row in rows:
        if isinstance(row, NotCounted):
            found = {"rejected": row.reason, "detail": row.detail, "records": row.records, "signal": row.signal}
        else:
            found = asdict(row)
        yield json.dumps(found)


def tables(rows: Iterable[Explained | NotCounted]) -> Iterator[str]:
    """Yield lines for people: several lines for each row, then the number of rows of each kind."""
    counts: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, NotCounted):
            size = (
                f"records of a message of {row.signal}: {row.records}" if row.records else f"a message of {row.signal}"
            )
            yield _shown(f"rejected as {row.reason}, {size}")
            yield _shown(f"  {row.detail}")
            counts[f"rejected as {row.reason}"] += row.records or 1
        else:
            yield from map(_shown, _table(row))
            counts["log records" if row.signal == "logs" else "exceptions of spans"] += 1
        yield ""
    yield ", ".join(f"{kind}: {number:,}" for kind, number in counts.items()) or "no log record, no exception of a span"


def _table(row: Explained) -> Iterator[str]:
    kind = "log record" if row.signal == "logs" else "exception of a span"
    level = f"severity {row.severity_number or 'unknown'}, {'WARN or worse' if row.warning_or_worse else 'below WARN'}"
    yield f"{kind} of {row.service} in {row.env}: {level}"
    named = {
        "event": row.event_name,
        "exception": row.exception_type,
        "pattern": f"{row.pattern_id}  {row.template}",
        "masked": ", ".join(row.masked),
        "line": row.line,
        "cut": "only the beginning is read" if row.cut else "",
        "repaired": f"{row.texts_repaired} texts of its message were not UTF-8" if row.texts_repaired else "",
    }
    yield from (f"  {name:10} {text}" for name, text in named.items() if text)


def _shown(text: str) -> str:
    """Escape each character of a text that would control a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
