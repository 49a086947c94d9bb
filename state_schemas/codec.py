"""State as versioned bytes: one writer, and one reader for each version that was ever released."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
import zstandard

S = TypeVar("S")

ZIPPED_FROM_BYTES: Final = 4_000  # shorter values gain little, and making a context of zstandard costs 2 us


class UnknownStateVersion(ValueError):
    """Error: this build has no reader for the version or the codec of these bytes."""


@dataclass(frozen=True, slots=True)
class Codec(Generic[S]):
    """Writer and readers of one type of state: the first byte is the version, the rest is the output of `write`."""

    name: str
    version: int
    write: Callable[[S], bytes]
    # A reader for `version` and for each older version that a savepoint may still contain.
    readers: Mapping[int, Callable[[bytes], S]]

    def __post_init__(self) -> None:
        assert 1 <= self.version <= 255, f"{self.name}: version {self.version} does not fit the first byte"
        assert self.version in self.readers, f"{self.name}: version {self.version} has a writer but no reader"

    def encode(self, state: S) -> bytes:
        return bytes((self.version,)) + self.write(state)

    def decode(self, data: bytes) -> S:
        """Return the state. Raise UnknownStateVersion, which names the known versions and the next step."""
        version = data[0] if data else 0
        reader = self.readers.get(version)
        if reader is None:
            known = ", ".join(str(v) for v in sorted(self.readers))
            message = (
                f"{self.name}: state version {version}, expected one of {known}; "
                "deploy the build that wrote it, or add a reader"
            )
            raise UnknownStateVersion(message)
        return reader(data[1:])


_CODECS: Final[dict[str, Codec[Any]]] = {}


def register(codec: Codec[S]) -> Codec[S]:
    """Register a codec for `open_box` by its name. Savepoints contain the name, so it never changes."""
    assert codec.name not in _CODECS, f"two codecs are named {codec.name}"
    _CODECS[codec.name] = codec
    return codec


def packed(name: str, state: type[S]) -> Codec[S]:
    """Return a codec of version 1 that writes a state as MessagePack."""
    write, read = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(state).decode
    return register(Codec(name=name, version=1, write=write, readers={1: read}))


def zipped(name: str, state: type[S]) -> Codec[S]:
    """Return a codec of version 1 for a state of mostly names and small numbers: MessagePack, compressed at level 1.

    A state is written at the end of each bundle and read once. Compression takes 2 ms a megabyte and leaves a quarter
    of the size. A context of zstandard must not be shared by threads, so each call makes one, which costs microseconds.
    """
    pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(state).decode

    def write(live: S) -> bytes:
        return zstandard.ZstdCompressor(level=1).compress(pack(live))

    def read(data: bytes) -> S:
        return unpack(zstandard.ZstdDecompressor().decompress(data))

    return register(Codec(name=name, version=1, write=write, readers={1: read}))


class PackedTuple(Generic[S]):
    """Writer and reader of tuples that travel between steps: MessagePack, compressed at level 1 where it is long.

    All outputs of a bundle are on the heap of the JVM at once. item: type of the items. The first byte says which form.
    """

    def __init__(self, item: type[S]) -> None:
        self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(tuple[item, ...])  # type: ignore[valid-type]

    def pack(self, items: Sequence[S]) -> bytes:
        """Return the items as bytes; b"" for none. Costs 2 ms a megabyte."""
        if not items:
            return b""
        plain = self._encoder.encode(items)
        if len(plain) < ZIPPED_FROM_BYTES:
            return b"\0" + plain
        return b"\1" + zstandard.ZstdCompressor(level=1).compress(plain)

    def unpack(self, data: bytes) -> tuple[S, ...]:
        if not data:
            return ()
        rest = memoryview(data)[1:]
        return self._decoder.decode(zstandard.ZstdDecompressor().decompress(rest) if data[0] else rest)


class Box(Generic[S]):
    """Live state in Flink's cache, with its timer. It becomes versioned bytes only when Flink pickles it.

    The pickle names `open_box` and nothing else of this project, so renaming a state class breaks no savepoint.
    """

    __slots__ = ("codec", "state", "timer_at_ms")

    def __init__(self, codec: Codec[S], state: S, timer_at_ms: int | None) -> None:
        self.codec = codec
        self.state = state
        # Event time of the timer that is set, or None.
        self.timer_at_ms = timer_at_ms

    def __reduce__(self) -> tuple[Callable[[str, bytes, int | None], "Box[Any]"], tuple[str, bytes, int | None]]:
        return open_box, (self.codec.name, self.codec.encode(self.state), self.timer_at_ms)


def open_box(codec_name: str, data: bytes, timer_at_ms: int | None) -> Box[Any]:
    """Return the Box of a pickle. Raise UnknownStateVersion."""
    codec = _CODECS.get(codec_name)
    if codec is None:
        message = f"state of codec {codec_name!r}, known are {sorted(_CODECS)}; deploy the build that has this codec"
        raise UnknownStateVersion(message)
    return Box(codec, codec.decode(data), timer_at_ms)
