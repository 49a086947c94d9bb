"""Reader of log records and exceptions: it computes the pattern, severity and masked line of each."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from state_schemas.telemetry.logs import LogRecord
from udfs.logs.masking.masker import DEFAULTS, MASK_BYTES, MASK_NAMES, Masker, MaskName, MaskSettings
from udfs.logs.masking.user_names import hide_names
from udfs.logs.severity import WARN, severity_of
from udfs.logs.stack_trace import TRACE_CHARS_MAX, ParsedException, exception_in
from udfs.logs.template import PATTERN_ID_BYTES, Pattern, named_pattern, pattern_of, template_of

__all__ = ["LineReader", "ReadLine", "pattern_ids"]

REMEMBERED_MAX: Final = 20_000  # masked lines with their patterns; a masked line and its pattern take about 1 kB
_ERROR: Final = 17
_MESSAGE_NAMES: Final = ("message", "msg", "log", "event", "body")
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_BYTES_CHARS_MIN: Final = 64  # of a body that is only hex digits: it is bytes, not a word
_TYPE_CHARS_MAX: Final = 200
_TYPE_SIGNS: Final = frozenset("_$.:<>+-")
_JSON_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ReadLine(NamedTuple):
    """A line with its severity and pattern."""

    # Severity WARN or higher, or an exception.
    severe: bool
    severity: int
    pattern: Pattern
    # The masked line as people read it; "" for lines that are not severe, because no insight shows them.
    line: str
    # "" where there is no exception.
    exception_type: str
    # The masked line before names of users are hidden.
    masked_line: bytes
    # True where only the beginning is read: of a line longer than line_bytes_max, or of a stack trace longer than
    # TRACE_CHARS_MAX.
    cut: bool


class LineReader:
    """Reader of log records. Each thread needs its own; its cache changes no result."""

    def __init__(self, settings: MaskSettings = DEFAULTS) -> None:
        self._masker = Masker(settings)
        self._seen = hide_names if "user" in settings.masks else bytes
        self._known: dict[bytes, Pattern] = {}

    def read(self, records: Sequence[LogRecord]) -> list[ReadLine]:
        """Read each record, in order.

        It takes about 2 ns a byte, 10 us more for a line that may contain the name of a user, and 30 us for a new
        masked line.
        """
        attributes = [dict(record.attributes) for record in records]
        traces = [_trace_of(record, named) for record, named in zip(records, attributes, strict=True)]
        exceptions = list(map(_exception_of, attributes, traces))
        lines = [_line(record, exception) for record, exception in zip(records, exceptions, strict=True)]
        masked_lines = self._masker.masked_lines(lines)
        given = [named.get("log.record.template", "") for named in attributes]
        masked = dict(zip(given, self._masker.masked_lines(given), strict=True)) if any(given) else {}
        out: list[ReadLine] = []
        for index, record in enumerate(records):
            severity = severity_of(record.severity_number, record.severity_text, lines[index])
            exception = exceptions[index]
            pattern = self.pattern(masked[given[index]] if given[index] else masked_lines[index])
            severe = severity >= WARN or exception is not None
            line = self._line_of(masked_lines[index]) if severe else ""
            cut = self._masker.is_cut(lines[index]) or len(traces[index]) > TRACE_CHARS_MAX
            read = ReadLine(severe, severity, pattern, line, "", masked_lines[index], cut)
            out.append(read if exception is None else _as_exception(exception, read))
        return out

    def patterns(self, lines: Sequence[str]) -> list[Pattern]:
        """Return the pattern of each line of text."""
        known = self._known.get
        return [known(masked_line) or self.pattern(masked_line) for masked_line in self._masker.masked_lines(lines)]

    def pattern(self, masked_line: bytes) -> Pattern:
        """Return the pattern of a masked line, cached."""
        known = self._known.get(masked_line)
        if known is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            known = self._known[masked_line] = pattern_of(self._seen(masked_line))
        return known

    def masks_in(self, masked_line: bytes) -> tuple[MaskName, ...]:
        """Return the masks in a masked line, that of users included; distinct, in the order of MASK_NAMES."""
        seen = self._seen(masked_line)
        return tuple(name for name, byte in zip(MASK_NAMES, MASK_BYTES, strict=True) if byte in seen)

    def _line_of(self, masked_line: bytes) -> str:
        """Return the masked line as people read it."""
        return template_of((self._seen(masked_line).decode(errors="replace"),))


def pattern_ids(text: str, masks: MaskSettings) -> frozenset[str]:
    """Return the ids of the patterns in a text: each line is an example line or an id; `#` begins a comment."""
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    ids = {line for line in named if len(line) == 2 * PATTERN_ID_BYTES and _HEX_DIGITS.issuperset(line)}
    examples = [line for line in named if line not in ids]
    return frozenset(ids | {pattern.pattern_id for pattern in LineReader(masks).patterns(examples)})


def _trace_of(record: LogRecord, attributes: dict[str, str]) -> str:
    """Return the text in which a stack trace is looked for: an attribute, or a body of several lines."""
    trace = attributes.get("exception.stacktrace", "")
    if trace or attributes.get("exception.type"):
        return trace
    return record.body if "\n" in record.body else ""


def _exception_of(attributes: dict[str, str], trace: str) -> ParsedException | None:
    kind = attributes.get("exception.type", "")
    if kind or attributes.get("exception.stacktrace"):
        return _of_attributes(kind, attributes.get("exception.message", ""), trace)
    return exception_in(trace) if trace else None


def _of_attributes(kind: str, message: str, trace: str) -> ParsedException:
    parsed = exception_in(trace)
    if parsed is None:
        return ParsedException(kind, message, ())
    return ParsedException(kind or parsed.type, message or parsed.message, parsed.frames)


def _line(record: LogRecord, exception: ParsedException | None) -> str:
    """Return the part of the record that is masked and becomes its pattern."""
    if exception is not None:
        return exception.message
    body = record.body or record.event_name
    if body.startswith("{"):
        return _of_object(body)
    return "bytes" if _is_bytes(body) else body


def _is_bytes(body: str) -> bool:
    """Return whether a body is bytes, written as hex."""
    return len(body) >= _BYTES_CHARS_MIN and len(body) % 2 == 0 and body.isalnum() and _HEX_DIGITS.issuperset(body)


def _is_type(name: str) -> bool:
    """Return whether a name is that of a type in a programming language, with its package, and no other text."""
    if not 0 < len(name) <= _TYPE_CHARS_MAX or not (name[0] in "_$" or (name[0].isascii() and name[0].isalpha())):
        return False
    return all(sign.isalnum() or sign in _TYPE_SIGNS for sign in name)


def _of_object(body: str) -> str:
    """Return the message of a structured body where it has one, else its members as `name=value`."""
    try:
        members = _JSON_OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # msgspec goes some 1,000 levels deep
        return body
    for name in _MESSAGE_NAMES:
        if name in members and bytes(members[name]).startswith(b'"'):
            return str(msgspec.json.decode(members[name]))
    return " ".join(f"{name}={bytes(value).decode()}" for name, value in members.items())


def _as_exception(exception: ParsedException, message: ReadLine) -> ReadLine:
    """Return the line of an exception: its pattern is the type, the frames of the program, then the message."""
    kind = exception.type if _is_type(exception.type) else "exception"
    head = (kind, *(f"at {frame}" for frame in exception.frames))
    texts = tuple(f" {part}" for part in head)
    pattern = named_pattern((*head, *message.pattern.key), (*texts, *message.pattern.texts))
    line = f"{kind}: {message.line}".rstrip()
    return ReadLine(True, max(message.severity, _ERROR), pattern, line, kind, message.masked_line, message.cut)
