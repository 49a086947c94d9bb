"""Patterns and templates of log lines: the words of a masked line that identify the event.

The blank-separated tokens of a masked line (`udfs.logs.masking.masker`) are *words*, letters only, or *names*: paths,
dotted names, values behind `=`, and each token with a mask. Words describe the event, names the objects of it. A
pattern is the words in their places, with a hole for each run of names; where a line has too few words, its names
count as well. So the pattern of a line is a function of that line alone: its id does not depend on other lines, on the
time or on the place.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from udfs.logs.masking.masker import MASK_BYTES, MASK_NAMES

__all__ = ["HOLE", "Pattern", "merge_texts", "named_pattern", "pattern_of", "template_of", "words_of"]

# Raise it with every change of masks, templates, user names or stack traces that gives a line another pattern id: for a
# registry of old ids, every known error would be new. `tests/contracts/test_pattern_ids.py` finds such a change.
PATTERN_VERSION: Final = 1

HOLE: Final = "\x09"  # in keys, and in texts where masked lines differ; no mask has this byte
WORDS_MIN: Final = 3  # in lines with at least so many words, names are holes; 2 to 4 score alike on Loghub, 5 less
TOKENS_MAX: Final = 64
REPEATED_MAX: Final = 12  # words and holes of a repeated part of a line
PATTERN_ID_BYTES: Final = 8

_SIGNS, _WORD, _NAME, _MASKED = range(4)
_EDGES: Final = "()[]{}<>,;:\"'`.!?|"
_MASK: Final = "[\x01-\x09\x0e]"
_MONTH: Final = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_ASSIGNED: Final = re.compile(r"[(\[{\"']*[A-Za-z][\w.\-]*=")
# A path, an address, a dotted name, or a name of three parts or more: `ts-food-service`.
_NAME_SIGN: Final = re.compile(rf"[/\\~@|]|::|{_MASK}|[A-Za-z]\.[A-Za-z]|[A-Za-z0-9]-[A-Za-z0-9]+-[A-Za-z0-9]")
# Day and month of a date whose numbers are masked: `Sun Jan 29`, `Mon, 30 Jan 2023`.
_DATE: Final = re.compile(
    r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?"
    rf"(?:(?:{_MONTH})[ -]{_MASK}|{_MASK}[ -](?:{_MONTH})\b(?:[ -]{_MASK})?)"
)
_NUMBER: Final = "\x01"
_LETTERS: Final = re.compile(r"[^\W\d_]")
_MASKS: Final = re.compile(_MASK)
_SHOWN: Final = {ord(HOLE): "<*>", **{byte: f"<{name}>" for byte, name in zip(MASK_BYTES, MASK_NAMES, strict=True)}}


class Pattern(NamedTuple):
    """Pattern of a line."""

    # A hash of the key, in hex.
    pattern_id: str
    # The words, and a hole for each run of names between them.
    key: tuple[str, ...]
    # The text of each part of the key, with the blanks before it.
    texts: tuple[str, ...]


def named_pattern(key: tuple[str, ...], texts: tuple[str, ...]) -> Pattern:
    """Return the pattern with this key."""
    assert len(key) == len(texts), f"{len(key)} parts of a key and {len(texts)} texts; give each part its text"
    return Pattern(sha256("\x1f".join(key).encode()).digest()[:PATTERN_ID_BYTES].hex(), key, texts)


def pattern_of(masked_line: bytes) -> Pattern:
    """Return the pattern of a masked line; the text behind TOKENS_MAX tokens is one hole.

    O(length), some 30 us a line; callers cache it by masked line.
    """
    parts = _DATE.sub(_NUMBER, masked_line.decode(errors="replace")).split(" ")
    tokens = [token for part in parts[:TOKENS_MAX] for token in _tokens(part)]
    if len(parts) > TOKENS_MAX:
        tokens.append((" " + " ".join(parts[TOKENS_MAX:]), _MASKED))
    names_are_holes = sum(kind == _WORD and len(_LETTERS.findall(text)) > 1 for text, kind in tokens) >= WORDS_MIN
    key: list[str] = []
    texts: list[str] = []
    for text, kind in tokens:
        is_hole = kind == _MASKED or (kind == _NAME and names_are_holes)
        if is_hole and key and key[-1] == HOLE:
            texts[-1] += text
            continue
        key.append(HOLE if is_hole else _MASKS.sub(HOLE, text).strip(" "))
        texts.append(text)
    _fold_repeats(key, texts)
    return named_pattern(tuple(key), tuple(texts))


def _fold_repeats(key: list[str], texts: list[str]) -> None:
    """Keep a part that repeats with other names, as in a list of records, once; the others are added to its hole."""
    words = [part for part in key if part != HOLE]
    if len(set(words)) == len(words):
        return
    for period in range(2, REPEATED_MAX + 1):
        end = period
        while end + period <= len(key):
            if key[end - 1] == HOLE and key[end - period : end] == key[end : end + period]:
                texts[end - 1] += "".join(texts[end : end + period])
                del key[end : end + period], texts[end : end + period]
            else:
                end += 1


def words_of(key: tuple[str, ...]) -> list[int]:
    """Return the indices of the parts of a key that are words."""
    return [index for index, part in enumerate(key) if HOLE not in part and len(_LETTERS.findall(part)) > 1]


def merge_texts(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    """Return the common parts of two masked lines of one pattern. Associative, commutative and idempotent."""
    assert len(left) == len(right), f"texts of {len(left)} and {len(right)} parts; merge texts of one pattern only"
    return left if left == right else tuple(_common(a, b) for a, b in zip(left, right, strict=True))


def template_of(texts: Iterable[str]) -> str:
    """Return the template as people read it: masks by their names, `<*>` where masked lines differ."""
    return "".join(texts).strip(" ").translate(_SHOWN)


def _common(left: str, right: str) -> str:
    if left == right:
        return left
    if _MASKS.sub(HOLE, left) == _MASKS.sub(HOLE, right):  # other masks in the same places
        return "".join(a if a == b else HOLE for a, b in zip(left, right, strict=True))
    return " " + HOLE if left.startswith(" ") and right.startswith(" ") else HOLE


def _tokens(part: str) -> list[tuple[str, int]]:
    """Return (text with the blank before it, kind) of a word, or of a key and of the value behind its `=`."""
    assigned = _ASSIGNED.match(part)
    if not assigned:
        return [(" " + part, _kind(part))]
    name, value = part[: assigned.end()], part[assigned.end() :]
    key = (" " + name, _kind(name))
    if not value:
        return [key]
    return [key, (value, _NAME if _LETTERS.search(value) else _kind(value))]


def _kind(part: str) -> int:
    core = part.strip(_EDGES)
    if not _LETTERS.search(core):
        return _MASKED if _MASKS.search(core) else _SIGNS
    return _NAME if _NAME_SIGN.search(core) else _WORD
