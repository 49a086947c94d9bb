"""Registry of a service's severe patterns: known patterns, merged patterns, evicted patterns.

Registering is a pure function of the registry and the *set* of patterns in a window: new patterns enter in the order of
their ids, so the ids do not depend on arrival or parallelism.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from state_schemas.state.log_patterns import LogPatternModel, Registered
from udfs.detect.log_patterns.rate import add_rates
from udfs.logs.template import HOLE, Pattern, merge_texts, named_pattern, pattern_of, words_of

__all__ = ["Registry", "canonical", "evicted_patterns", "register"]

# Patterns that differ in one word are merged when that word has VARIANTS_MIN values (a user, a host) and WORDS_LEFT_MIN
# other words are left. `GET`, `POST`, `PUT`, `DELETE` stay four patterns.
VARIANTS_MIN: Final = 5
WORDS_LEFT_MIN: Final = 3


_KEYS_REMEMBERED: Final = 20_000
EVICTED_MAX: Final = 4_000  # evicted patterns of a service that are remembered, so that their return is recognised


class Registry(NamedTuple):
    """Result of registering patterns.

    entries: by pattern id.
    added: canonical ids of new patterns.
    refused: ids for which there was no room.
    """

    entries: dict[str, Registered]
    added: tuple[str, ...]
    refused: frozenset[str]


def canonical(entries: Mapping[str, Registered], pattern_id: str, texts: tuple[str, ...]) -> str:
    """Return the id under which a pattern is counted: its own, or that of the wider pattern that it is part of."""
    entry = entries.get(pattern_id)
    if entry is None:
        key = _key(pattern_id, texts)
        wider = (name for name, other in entries.items() if other.wide and _is_part(key, other.wide))
        pattern_id = min(wider, default=pattern_id)
        entry = entries.get(pattern_id)
    while entry is not None and entry.alias_of:
        pattern_id = entry.alias_of
        entry = entries.get(pattern_id)
    return pattern_id


def _is_part(key: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    return len(key) == len(wide) and all(part in (HOLE, own) for own, part in zip(key, wide, strict=True))


def register(known: Mapping[str, Registered], new: Mapping[str, Registered], room: int) -> Registry:
    """Return the registry with the new patterns, each of them its own canonical one.

    A new pattern is refused when there are `room` entries; wider patterns that result from merging are always added.
    O(entries), and where nothing is new only a copy.
    """
    merging, entries = _Merging(), dict(known)
    added: set[str] = set()
    refused: set[str] = set()
    for name, entry in known.items() if new else ():
        if not entry.alias_of:
            merging.add(name, entry)
    for pattern_id, entry in sorted(new.items()):
        if len(entries) >= room:
            refused.add(pattern_id)
            continue
        entries[pattern_id] = entry
        added.add(pattern_id)
        merging.add(pattern_id, entry)
        while (variants := merging.variants(entries, pattern_id)) is not None:
            wide, names = variants
            is_new = wide.pattern_id not in entries and names <= added
            for name in sorted(names):
                merging.discard(name, entries[name])
                _join(entries, name, wide)
            added -= names
            added |= {wide.pattern_id} if is_new else set()
            merging.add(wide.pattern_id, entries[wide.pattern_id])
            pattern_id = wide.pattern_id
    return Registry(entries, tuple(sorted(added)), frozenset(refused))


@lru_cache(_KEYS_REMEMBERED)
def _key(pattern_id: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key of an entry; () of an entry that is not read from one line, which is never merged."""
    pattern = pattern_of("".join(texts)[1:].encode())
    return pattern.key if pattern.pattern_id == pattern_id else ()


def _without(key: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the key with each word in turn replaced by a hole, if WORDS_LEFT_MIN other words are left."""
    words = words_of(key)
    if len(words) > WORDS_LEFT_MIN:
        yield from ((*key[:index], HOLE, *key[index + 1 :]) for index in words)


class _Merging:
    """Entries that differ in one word only, by their key without that word; aliases are left out."""

    def __init__(self) -> None:
        self._names: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)

    def add(self, name: str, entry: Registered) -> None:
        for hole in _without(_key(name, entry.texts)):
            self._names[hole].add(name)

    def discard(self, name: str, entry: Registered) -> None:
        for hole in _without(_key(name, entry.texts)):
            self._names[hole].discard(name)

    def variants(self, entries: Mapping[str, Registered], name: str) -> tuple[Pattern, set[str]] | None:
        """Return the wider pattern of an entry, with all entries of it; the first by position of the hole."""
        for hole in _without(_key(name, entries[name].texts)):
            wide = named_pattern(hole, hole)
            if wide.pattern_id in entries or len(self._names[hole]) >= VARIANTS_MIN:
                return wide, set(self._names[hole])
        return None


def _join(entries: dict[str, Registered], name: str, wide: Pattern) -> None:
    """Make one entry an alias of a wider pattern, which takes over its lines."""
    entry = entries[name]
    own_key = _key(name, entry.texts)
    hole = next(index for index, (word, wider) in enumerate(zip(own_key, wide.key, strict=True)) if word != wider)
    texts = (*entry.texts[:hole], f" {HOLE}", *entry.texts[hole + 1 :])
    taken = msgspec.structs.replace(entry, texts=texts, wide=wide.key)
    before = entries.get(wide.pattern_id)
    entries[wide.pattern_id] = taken if before is None else _sum(before, taken)
    entries[name] = msgspec.structs.replace(entry, alias_of=wide.pattern_id)


def _sum(left: Registered, right: Registered) -> Registered:
    """Return the entry of two patterns merged."""
    return msgspec.structs.replace(
        left,
        texts=merge_texts(left.texts, right.texts),
        first_seen_ms=min(left.first_seen_ms, right.first_seen_ms),
        last_seen_ms=max(left.last_seen_ms, right.last_seen_ms),
        last_minute=max(left.last_minute, right.last_minute),
        away_minutes_max=min(left.away_minutes_max, right.away_minutes_max),
        count=left.count + right.count,
        rate=add_rates(left.rate, right.rate),
    )


def evicted_patterns(model: LogPatternModel, entries: Mapping[str, Registered]) -> dict[str, int]:
    """Return the time at which each evicted pattern was last seen; at most EVICTED_MAX, the newest."""
    left = model.registry.keys() - entries.keys()
    if not left and not model.evicted:
        return {}
    evicted = {name: seen_ms for name, seen_ms in model.evicted.items() if name not in entries}
    evicted |= {name: model.registry[name].last_seen_ms for name in sorted(left)}
    if len(evicted) <= EVICTED_MAX:
        return evicted
    return dict(sorted(evicted.items(), key=lambda item: (-item[1], item[0]))[:EVICTED_MAX])
