"""Logs of a small shop in which the template of every line is known, so the expected counts are exact."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as WireRecord
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from reasoner.recordings.message import Message
from reasoner.traffic.otlp import attributes
from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.resource import Resource
from tests.support.wire import delimited, resource_block, resource_head, scope_head
from udfs.logs.reader import LineReader

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
LATENESS_MS: Final = 120_000  # the job's default: a line older than this against its message's timestamp is late
LATE_BY_MS: Final = 200_000
LATE_EVERY: Final = 40  # each 40th line of a template with at_times_late is late
RESOLUTIONS_S: Final = (10, 60)
INFO, WARN, ERROR = 9, 13, 17
NARROW: Final = ("cart", "catalog", "checkout", "mail", "payment", "search", "shipping")
WIDE: Final = "legacy"  # a service with more templates in a window than rows for patterns
WIDE_TEMPLATES: Final = 40
EXCEPTION: Final = "StoreConnectionError"
NEW_ERROR: Final = "ledger of branch {number} does not balance by {number} cents"
FORMS: Final = (
    (WARN, 1, "payment {uuid} was declined by the bank after {number} ms"),
    (ERROR, 2, "connection to {ip} was refused by its peer"),
    (ERROR, 5, "could not reserve {number} pieces of item {number} in store"),
    (WARN, 3, "lookup of key {hex} took {number} ms and is slow"),
    (WARN, 13, "disk is nearly full at {number} per cent"),
    (ERROR, 7, "session {hex} has expired, customer {number} must sign in again"),
    (WARN, 11, "queue of orders holds {number} entries and keeps growing"),
    (ERROR, 60, "certificate of {ip} ends in {number} days"),
    (WARN, 120, "lock on table stock was not granted within {number} ms"),
    (ERROR, 240, "message {uuid} could not be parsed and was put aside"),
)
SERVED: Final = "request {uuid} was served in {number} ms"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_VALUES: Final[Mapping[str, Callable[[Random], str]]] = {
    "number": lambda random: str(random.randrange(100_000)),
    "uuid": lambda random: str(UUID(int=random.getrandbits(128))),
    "ip": lambda random: ".".join(str(random.randrange(1, 255)) for _ in range(4)),
    "hex": lambda random: f"{random.getrandbits(60):015x}7",
}


class Template(NamedTuple):
    """Template of log lines of one service: the first line at first_ms, then one line every every_ms.

    exception: type of the exception whose message is the form; empty for plain lines.
    at_times_late: each LATE_EVERY-th line is sent LATE_BY_MS after its event time.
    """

    service: str
    severity: int
    form: str
    first_ms: int
    every_ms: int
    exception: str = ""
    at_times_late: bool = False

    @property
    def severe(self) -> bool:
        return self.severity >= WARN or bool(self.exception)


class Line(NamedTuple):
    """A log line. sent_ms: when it is sent; at_ms: its event time (both epoch ms)."""

    sent_ms: int
    at_ms: int
    template: Template
    body: str


PatternWindow = tuple[str, str, int, int, bool]  # service, pattern id, window length in s, window start in ms, late


def templates(start_ms: int, new_error_ms: int) -> list[Template]:
    """Return templates that are all logged within seven minutes of start_ms, except one.

    The exception is an error of `payment` that is new at new_error_ms.
    """
    found = [Template("payment", ERROR, NEW_ERROR, new_error_ms, 5 * SECOND_MS)]
    for index, service in enumerate(NARROW):
        for number, (severity, every_s, form) in enumerate(FORMS):
            first_ms = start_ms + (7 * index + 11 * number) * SECOND_MS
            late = number == 1
            found.append(Template(service, severity, form, first_ms, every_s * SECOND_MS, at_times_late=late))
        # A line with an exception is severe whatever its severity number; the same words at INFO are not severe.
        found.append(Template(service, INFO, "reset while reading item {number}", start_ms, 9 * SECOND_MS, EXCEPTION))
        found.append(Template(service, INFO, FORMS[0][2], start_ms, 2 * SECOND_MS))
    random = Random(1)
    for number in range(WIDE_TEMPLATES):
        words = ("".join(random.choices("ghijklmnopqrstuvwxyz", k=7)) for _ in range(3))
        form = " ".join((*words, "at {number} of {uuid}"))
        found.append(Template(WIDE, ERROR, form, start_ms + number * SECOND_MS, 2 * SECOND_MS))
    found += (Template(service, INFO, SERVED, start_ms, 500) for service in (*NARROW, WIDE))
    return found


def lines(drawn: Sequence[Template], end_ms: int, seed: int) -> list[Line]:
    """Return all lines of the templates up to end_ms, in the order in which they are sent."""
    random = Random(seed)
    found = []
    for template in drawn:
        for number, slot_ms in enumerate(range(template.first_ms, end_ms - template.every_ms, template.every_ms)):
            sent_ms = slot_ms + random.randrange(template.every_ms)
            is_late = template.at_times_late and number % LATE_EVERY == LATE_EVERY - 1
            at_ms = sent_ms - (LATE_BY_MS if is_late else random.randrange(2 * SECOND_MS))
            found.append(Line(sent_ms, at_ms, template, _filled(template.form, random)))
    return sorted(found)


def messages(sent: Iterable[Line], partitions: int) -> Iterator[Message]:
    """Yield one message for each second with the lines sent in it, to the partitions in turn."""
    scope = scope_head()
    for second, in_second in groupby(sent, key=lambda line: line.sent_ms // SECOND_MS):
        by_service: dict[str, list[bytes]] = {}
        for line in in_second:
            by_service.setdefault(line.template.service, []).append(_wire(line))
        resources = [resource_block(_head(service), scope, records) for service, records in by_service.items()]
        yield Message("logs", b"".join(resources), (second + 1) * SECOND_MS, second % partitions)


def pattern_ids(severe: Iterable[Template]) -> dict[Template, str]:
    """Return the pattern id of each template, read from one of its lines."""
    reader, random = LineReader(), Random(0)
    found = {}
    for template in severe:
        body = _filled(template.form, random)
        attributes = (("exception.type", template.exception), ("exception.message", body)) if template.exception else ()
        resource = Resource("production", template.service, "h")
        record = LogRecord(resource, 1, template.severity, "", body, "", attributes, "")
        found[template] = reader.read([record])[0].pattern.pattern_id
    return found


def counted(sent: Iterable[Line], ids: dict[Template, str]) -> Counter[PatternWindow]:
    """Count every severe line in its windows."""
    found: Counter[PatternWindow] = Counter()
    for line in sent:
        if line.template.severe:
            arrived_ms = (line.sent_ms // SECOND_MS + 1) * SECOND_MS
            late = line.at_ms < arrived_ms - LATENESS_MS
            for resolution_s in RESOLUTIONS_S:
                start_ms = line.at_ms - line.at_ms % (resolution_s * 1_000)
                found[line.template.service, ids[line.template], resolution_s, start_ms, late] += 1
    return found


def emissions_that_do_not_add_up(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the emissions whose rows do not add up to their total.

    Rows of one emission have the same total. Emissions of a window with equal totals are counted by their first ranks.
    """
    lines: Counter[tuple[Any, ...]] = Counter()
    firsts: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        emission = (row["service"], row["resolution_s"], row["window_start"], row["late"], row["total"])
        lines[emission] += row["count"]
        firsts[emission] += row["rank"] == 1
    return [emission for emission, count in lines.items() if count != firsts[emission] * emission[-1]]


def _filled(form: str, random: Random) -> str:
    return _PARAMETER.sub(lambda match: _VALUES[match[1]](random), form)


def _wire(line: Line) -> bytes:
    record = WireRecord(
        time_unix_nano=line.at_ms * 1_000_000,
        severity_number=SeverityNumber.ValueType(line.template.severity),
        body=AnyValue(string_value=line.body),
    )
    if line.template.exception:
        record.attributes.extend(
            attributes({"exception.type": line.template.exception, "exception.message": line.body})
        )
    return delimited(2, record.SerializeToString())


@dataclass(frozen=True)
class Story:
    """Logs of an interval.

    ids: pattern ids of the severe templates.
    novelty: the template that is new.
    expected: severe lines by PatternWindow.
    """

    sent: list[Line]
    stream: list[Message]
    ids: dict[Template, str]
    novelty: Template

    @property
    def expected(self) -> Counter[PatternWindow]:
        return counted(self.sent, self.ids)


def story(start_ms: int, minutes: int, new_error_minute: int, partitions: int, seed: int) -> Story:
    new_error_ms = start_ms + new_error_minute * MINUTE_MS
    drawn = templates(start_ms, new_error_ms)
    sent = lines(drawn, start_ms + minutes * MINUTE_MS, seed)
    ids = pattern_ids(template for template in drawn if template.severe)
    (novelty,) = (template for template in drawn if template.form == NEW_ERROR)
    return Story(sent, list(messages(sent, partitions)), ids, novelty)


@cache
def _head(service: str) -> bytes:
    return resource_head(service, f"{service}-host")
