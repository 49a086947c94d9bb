"""Reading of files of the Collector's file exporter into messages in the order of their Kafka timestamps.

All formats of the exporter are read, recognised by content and not by name: OTLP/JSON lines; protobuf with a 4-byte
big-endian length before each message; either of them in a gzip or zstd stream (one frame or many); and, as older
Collectors compress, a separate zstd frame after each length. Bad lines are reported.
"""

import contextlib
import gzip
import heapq
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, cast

import zstandard

from reasoner.errors import WrongUse
from reasoner.recordings import json_times
from reasoner.recordings.message import Message
from reasoner.recordings.otlp_json import NotOtlp
from reasoner.runs.foreign_format import foreign_format
from state_schemas.contracts.dead_letter import Rejected
from state_schemas.telemetry.signals import SignalType
from state_schemas.telemetry.spans import SpanColumns
from udfs.linear import expression
from udfs.otlp.decoder import Records, SpanDecoder, decode_records
from udfs.otlp.signal import signal_of

# All files are open while they are merged, so that their first times need not be known in advance. A file costs a
# descriptor (the usual limit is 1,024), up to 8 MB of zstd window and REORDER_MESSAGES waiting messages of about 40 kB.
FILES_OPEN_MAX: Final = 500
REORDER_MESSAGES: Final = 16  # batches of parallel pipelines are out of order by a few lines
MESSAGE_BYTES_MAX: Final = 64 << 20  # above any usual Kafka limit; a larger length prefix is not a length
LINES_BEFORE_GIVING_UP: Final = 16  # a file whose first lines are all not OTLP (a truth file, a README) is skipped
BAD_LINES_KEPT: Final = 20

_BUFFER_BYTES: Final = 1 << 17
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SIDECAR: Final = expression(rb'\{"kafkaTimestampUnixMs":(\d+)(?:,"kafkaPartition":(\d+))?,')

_Key = tuple[int, str, int]  # timestamp, name, line


class BadLine(NamedTuple):
    """A line that was dropped, or (delivered) that came out of order. line counts from 1: a line or a message."""

    file: str
    line: int
    reason: str
    delivered: bool = False


@dataclass(slots=True)
class BadLines:
    """Counts of what `read` reports, with the first BAD_LINES_KEPT as examples. Pass it as `on_bad`."""

    dropped: int = 0
    out_of_order: int = 0
    examples: list[BadLine] = field(default_factory=list)

    def __call__(self, bad: BadLine) -> None:
        if bad.delivered:
            self.out_of_order += 1
        else:
            self.dropped += 1
        if len(self.examples) < BAD_LINES_KEPT:
            self.examples.append(bad)


class RawValue(NamedTuple):
    """The bytes of a message in a file. line: counts from 1, a line or a message."""

    line: int
    value: bytes


class _File(NamedTuple):
    path: Path
    name: str  # relative to the folder given by the user, so that ties do not depend on its location


def sidecar(timestamp_ms: int, partition: int | None) -> bytes:
    """Return the start of a JSON line with Kafka timestamp and partition; OTLP/JSON readers ignore unknown fields."""
    place = b"" if partition is None else b',"kafkaPartition":%d' % partition
    return b'{"kafkaTimestampUnixMs":%d%b,' % (timestamp_ms, place)


def kept_timestamp_ms(value: bytes) -> int | None:
    """Read the Kafka timestamp that `sidecar` put before a message, epoch ms; None if there is none."""
    return int(found[1]) if (found := _SIDECAR.match(value)) else None


def read(paths: Sequence[Path], on_bad: Callable[[BadLine], None]) -> Iterator[Message]:
    """Yield messages of files and folders (recursive, without hidden files), by timestamp, file name and line.

    timestamp_ms is that of the sidecar if there is one, else the newest event time in the message. Values are the bytes
    of the recording without the sidecar. Lazy: memory is bounded by the number of files, not by their
    length. A file may be out of order by REORDER_MESSAGES lines; a message further out of order is delivered late and
    reported. Raises WrongUse for a path that does not exist, has no file, or has more than FILES_OPEN_MAX files.
    """
    files = _files(paths)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(_in_order(file, on_bad))) for file in files]
        for _, message in heapq.merge(*streams, key=itemgetter(0)):
            yield message


def _files(paths: Sequence[Path]) -> list[_File]:
    found: list[_File] = []
    for path in paths:
        if path.is_dir():
            inside = sorted((p, p.relative_to(path)) for p in path.rglob("*") if p.is_file())
            found += [_File(p, n.as_posix()) for p, n in inside if not any(part[0] == "." for part in n.parts)]
        elif path.is_file():
            found.append(_File(path, path.name))
        else:
            message = f"{path}: no such file or folder; expected a recording of the Collector's file exporter"
            raise WrongUse(message)
    if not found:
        message = f"{', '.join(map(str, paths)) or 'no path'}: holds no file; expected OTLP/JSON lines or protobuf"
        raise WrongUse(message)
    if len(found) > FILES_OPEN_MAX:
        message = f"{len(found)} files, expected at most {FILES_OPEN_MAX} at once; name fewer, for example one day"
        raise WrongUse(message)
    return found


def _in_order(file: _File, on_bad: Callable[[BadLine], None]) -> Generator[tuple[_Key, Message], None, None]:
    waiting: list[tuple[_Key, Message]] = []
    sent_ms = 0
    for line, message in _messages(file, on_bad):
        if message.timestamp_ms < sent_ms:
            behind_ms = sent_ms - message.timestamp_ms
            reason = f"{behind_ms} ms older than what was delivered; expected order within {REORDER_MESSAGES} lines"
            on_bad(BadLine(file.name, line, reason, delivered=True))
        # Keys are distinct (the line is in them), so messages are never compared.
        heapq.heappush(waiting, ((message.timestamp_ms, file.name, line), message))
        if len(waiting) > REORDER_MESSAGES:
            first = heapq.heappop(waiting)
            sent_ms = max(sent_ms, first[0][0])
            yield first
    while waiting:
        yield heapq.heappop(waiting)


def _messages(file: _File, on_bad: Callable[[BadLine], None]) -> Iterator[tuple[int, Message]]:
    """Yield (line, message) in the order of the file; a file that is not a recording is reported once."""
    early: list[BadLine] | None = []
    decoder = SpanDecoder()
    for line, value in raw_values(file.path, file.name, on_bad):
        try:
            message = _message(value, decoder)
        except NotOtlp as error:
            foreign = foreign_format(value)
            reason = f"{foreign.name}, expected an OTLP export request" if foreign else str(error)
            bad = BadLine(file.name, line, reason)
            if early is None:
                on_bad(bad)
                continue
            early.append(bad)
            if len(early) < LINES_BEFORE_GIVING_UP:
                continue
            reason = (
                f"not a recording, left out: none of the first {len(early)} lines is OTLP; the first: {early[0].reason}"
            )
            on_bad(BadLine(file.name, 1, reason))
            return
        for bad in early or ():
            on_bad(bad)
        early = None
        yield line, message
    for bad in early or ():
        on_bad(bad)


def raw_values(path: Path, name: str, on_bad: Callable[[BadLine], None]) -> Iterator[RawValue]:
    """Yield the messages of one file in its order, not yet decoded as OTLP; blank lines are skipped. Lazy.

    name: name of the file in the one BadLine that reports a file whose rest cannot be read.
    """
    line = 0
    try:
        with contextlib.closing(_open(path)) as stream:
            head = stream.peek(4)[:4]
            split = _lines if not head or head[:1] in b"{ \t\r\n" or len(head) < 4 else _length_prefixed
            if split is _length_prefixed and int.from_bytes(head, "big") > MESSAGE_BYTES_MAX:
                split = _lines  # other text: its lines are reported
            for line, value in enumerate(split(stream), start=1):
                if value.strip():
                    yield RawValue(line, value)
    except (EOFError, OSError, NotOtlp, zstandard.ZstdError) as error:
        on_bad(BadLine(name, line + 1, f"the rest of the file cannot be read: {error}"))


def _open(path: Path) -> io.BufferedReader:
    with path.open("rb") as raw:
        magic = raw.read(4)
    if magic[:2] == _GZIP_MAGIC:
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(path)), _BUFFER_BYTES)
    if magic == _ZSTD_MAGIC:
        reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
        return io.BufferedReader(cast(io.RawIOBase, reader), _BUFFER_BYTES)
    return io.BufferedReader(path.open("rb", buffering=0), _BUFFER_BYTES)


def _lines(stream: io.BufferedReader) -> Iterator[bytes]:
    while value := stream.readline(MESSAGE_BYTES_MAX):
        yield value
        while not value.endswith(b"\n") and len(value) == MESSAGE_BYTES_MAX:
            value = stream.readline(MESSAGE_BYTES_MAX)  # the rest of a line that is too long; its start was not JSON


def _length_prefixed(stream: io.BufferedReader) -> Iterator[bytes]:
    while prefix := stream.read(4):
        length = int.from_bytes(prefix, "big")
        if len(prefix) < 4 or length > MESSAGE_BYTES_MAX:
            message = f"found length {length}, expected 4 bytes of length up to {MESSAGE_BYTES_MAX}"
            raise NotOtlp(message)
        value = stream.read(length)
        if len(value) < length:
            message = f"found {len(value)} of {length} bytes: the file is cut off"
            raise NotOtlp(message)
        if value[:4] == _ZSTD_MAGIC:
            value = zstandard.ZstdDecompressor().decompress(value, max_output_size=MESSAGE_BYTES_MAX)
        yield value


def _message(value: bytes, decoder: SpanDecoder) -> Message:
    if not (prefix := _SIDECAR.match(value)):
        kind = signal_of(value)
        newest_ns = json_times.newest_ns(value) or max(times_ns(kind, value, decoder), default=0)
        if not newest_ns:
            message = f"no record of {kind} with a time, expected at least one"
            raise NotOtlp(message)
        return Message(kind, value.strip() if value.lstrip()[:1] == b"{" else value, newest_ns // 1_000_000)
    value = b"{" + value[prefix.end() :].strip()
    return Message(signal_of(value), value, int(prefix[1]), int(prefix[2]) if prefix[2] else None)


def times_ns(kind: SignalType, value: bytes, decoder: SpanDecoder) -> list[int]:
    """Return the event times in a request, epoch ns, in its order, 0 where a record has none.

    A span's event time is its end; that of a log record is its time or else when it was observed. Raises NotOtlp if the
    job would reject the request as a whole.
    """
    match decoder.decode(value) if kind == "traces" else decode_records(value, kind):
        case Rejected(detail=detail):
            raise NotOtlp(detail)
        case SpanColumns(end_ns=end_ns):
            return [int(time_ns) for time_ns in end_ns.tolist()]
        case Records(records=records):
            return [record.time_ns for record in records]
