"""A small graph of machines for tests of the engines: parcels are sorted and weighed, and one machine has rules."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, get_args

import msgspec

from operators.machine import Key, Stage, Step
from state_schemas.codec import Codec, register

HOUR_MS: Final = 3_600_000


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    to: str
    grams: int


class Letter(msgspec.Struct, frozen=True, array_like=True):
    to: str


class RegisteredLetter(Letter, frozen=True, array_like=True):
    """A letter that is counted as a letter as well."""


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """Mail that arrives. kind: `parcel`, `letter` or `registered`."""

    to: str
    kind: str
    grams: int = 0


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    to: str
    text: str


class Tariff(msgspec.Struct, frozen=True, array_like=True):
    """A rule of `Counter`."""

    rule_id: str
    grams_max: int


Mail = Parcel | Letter
CODEC: Codec[int] = register(Codec("test-parcels", 1, msgspec.msgpack.encode, {1: msgspec.msgpack.decode}))
BY_RECEIVER: Final = Key("to", lambda event: str(event.to))


class Sorter:
    """Puts out the mail that arrived, and counts it. gives: the declared outputs."""

    takes = (Arrival,)
    codec = CODEC

    def __init__(self, gives: tuple[type, ...] = (Parcel, Letter, RegisteredLetter)) -> None:
        self.gives = gives

    def initial(self, key: str) -> int:
        return 0

    def on_event(self, state: int, event: Arrival, watermark_ms: int) -> Step[int, Mail]:
        kinds: dict[str, Mail] = {
            "parcel": Parcel(event.to, event.grams),
            "letter": Letter(event.to),
            "registered": RegisteredLetter(event.to),
        }
        return Step(state + 1, (kinds[event.kind],), watermark_ms + HOUR_MS)

    def on_timer(self, state: int, now_ms: int) -> Step[int, Mail]:
        return Step(None)


class Office:
    """Writes a receipt for each event, and one at each timer."""

    takes: tuple[type, ...] = get_args(Mail)
    gives = (Receipt,)
    codec = CODEC

    def initial(self, key: str) -> int:
        return 0

    def on_event(self, state: int, event: Mail, watermark_ms: int) -> Step[int, Receipt]:
        text = f"parcel of {event.grams} g" if isinstance(event, Parcel) else "letter"
        return Step(state + 1, (Receipt(event.to, text),), watermark_ms + HOUR_MS)

    def on_timer(self, state: int, now_ms: int) -> Step[int, Receipt]:
        return Step(None, (Receipt("all", f"{state} in all"),))


class Counter(Office):
    """An office with rules: a parcel may be as heavy as the least of them says."""

    rules = Tariff

    def __init__(self, tariffs: Iterable[Tariff] = ()) -> None:
        self._tariffs = {tariff.rule_id: tariff for tariff in tariffs}

    def with_rules(self, changes: Sequence[Tariff]) -> "Counter":
        return Counter((self._tariffs | {change.rule_id: change for change in changes}).values())

    def on_event(self, state: int, event: Mail, watermark_ms: int) -> Step[int, Receipt]:
        grams_max = min((tariff.grams_max for tariff in self._tariffs.values()), default=0)
        heavy = isinstance(event, Parcel) and event.grams > grams_max
        return Step(state + 1, (Receipt(event.to, "too heavy" if heavy else "accepted"),), HOUR_MS)


SORTER: Final = Stage("sorter", Sorter(), BY_RECEIVER)
OFFICE: Final = Stage("office", Office(), BY_RECEIVER)
COUNTER: Final = Stage("counter", Counter(), BY_RECEIVER)


def giving(*types: Any) -> Stage:
    """Return the sorter with other declared outputs."""
    return replace(SORTER, machine=Sorter(types))
