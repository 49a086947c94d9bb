"""Patterns and templates of log lines: the words of a masked line that identify the event.

The blank-separated tokens of a masked line (`udfs.logs.masking.masker`) are *words*, letters only, or *names*: paths,
dotted names, values behind `=`, and each token with a mask. Words describe the event, names the objects of it. A
pattern is the words in their places, with a hole for each run of names; where a line has too few words, its names
count as well. So the pattern of a line is a function of that line alone: its id does not depend on other lines, on the
time or on the place.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

from udfs.linear import expression
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
_MASKS: Final = frozenset("".join(map(chr, MASK_BYTES)) + HOLE)
_MASK: Final = b"[\x01-\x09\x0e]"
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH: Final = b"|".join(_MONTHS)
# Day and month of a date whose numbers are masked: `Sun Jan 29`, `Mon, 30 Jan 2023`.
_DATE: Final = expression(
    rb"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?"
    rb"(?:(?:%b)[ -]%b|%b[ -](?:%b)\b(?:[ -]%b)?)" % (_MONTH, _MASK, _MASK, _MONTH, _MASK)
)
_NUMBER: Final = b"\x01"
_OPENING: Final = "([{\"'"
_KEY_SIGNS: Final = str.maketrans(
    "", "", "_.-"
)  # signs in a key beside letters and digits; `str.translate` deletes them
_NAME_SIGNS: Final = _MASKS.union("/\\~@|")  # of paths, addresses and masks
_AS_HOLES: Final = dict.fromkeys(map(ord, _MASKS), HOLE)
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
    if any(month in masked_line for month in _MONTHS):
        masked_line = _DATE.sub(lambda _: _NUMBER, masked_line)
    parts = masked_line.decode(errors="replace").split(" ")
    tokens = [token for part in parts[:TOKENS_MAX] for token in _tokens(part)]
    if len(parts) > TOKENS_MAX:
        tokens.append((" " + " ".join(parts[TOKENS_MAX:]), _MASKED))
    names_are_holes = sum(kind == _WORD and _has_two_letters(text) for text, kind in tokens) >= WORDS_MIN
    key: list[str] = []
    texts: list[str] = []
    for text, kind in tokens:
        is_hole = kind == _MASKED or (kind == _NAME and names_are_holes)
        if is_hole and key and key[-1] == HOLE:
            texts[-1] += text
            continue
        key.append(HOLE if is_hole else text.translate(_AS_HOLES).strip(" "))
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
    return [index for index, part in enumerate(key) if HOLE not in part and _has_two_letters(part)]


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
    if left.translate(_AS_HOLES) == right.translate(_AS_HOLES):  # other masks in the same places
        return "".join(a if a == b else HOLE for a, b in zip(left, right, strict=True))
    return " " + HOLE if left.startswith(" ") and right.startswith(" ") else HOLE


def _tokens(part: str) -> list[tuple[str, int]]:
    """Return (text with the blank before it, kind) of a word, or of a key and of the value behind its `=`."""
    end = part.find("=") + 1
    if not end or not _is_key(part[: end - 1]):
        return [(" " + part, _kind(part))]
    name, value = part[:end], part[end:]
    key = (" " + name, _kind(name))
    if not value:
        return [key]
    return [key, (value, _NAME if any(map(_is_letter, value)) else _kind(value))]


def _is_key(text: str) -> bool:
    key = text.lstrip(_OPENING)
    rest = key.translate(_KEY_SIGNS)
    return key[:1].isascii() and key[:1].isalpha() and rest.isalnum()


def _kind(part: str) -> int:
    core = part.strip(_EDGES)
    if core.isalpha():
        return _WORD
    if not any(map(_is_letter, core)):
        return _SIGNS if _MASKS.isdisjoint(core) else _MASKED
    return _NAME if _is_name(core) else _WORD


def _is_name(core: str) -> bool:
    """Return whether a token is a path, an address, a dotted name, or one of three parts or more: `ts-food-service`."""
    if not _NAME_SIGNS.isdisjoint(core) or "::" in core:
        return True
    if "." in core and any(_is_latin(a[-1:]) and _is_latin(b[:1]) for a, b in pairwise(core.split("."))):
        return True
    parts = core.split("-")
    around = zip(parts, parts[1:], parts[2:], strict=False)
    return any(_is_code(a[-1:]) and _is_code(middle) and _is_code(b[:1]) for a, middle, b in around)


def _is_latin(text: str) -> bool:
    return text.isascii() and text.isalpha()


def _is_code(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _is_letter(sign: str) -> bool:
    return sign.isalnum() and not sign.isdecimal()


def _has_two_letters(text: str) -> bool:
    return sum(map(_is_letter, text)) > 1
