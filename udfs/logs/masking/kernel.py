"""Masking of log lines at memory speed: each part that varies from line to line becomes one byte, its kind.

A *run* is a longest sequence of letters and digits; bytes from 0x80 on are letters. No control byte is copied to the
output: a sequence of blanks and control bytes becomes one blank, and bytes 1..8 in the output are masks.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from udfs.compiled import copy_bytes, first_set, inlined, load8, njit
from udfs.logs.masking.byte_classes import CAPITAL, DIGIT, HEX_LETTER, LETTER, PUNCT, SECRET_NAMES, SIGN, SMALL, UNITS

__all__ = ["EMAIL", "HEX", "ID", "IP", "MASK_LAST", "NUMBER", "PAD", "QUOTED", "SECRET", "UUID", "mask_lines"]

NUMBER: Final = 1  # digits, with sign, point and unit; times and dates
HEX: Final = 2  # 0x…, or four and more hexadecimal digits that include a figure
ID: Final = 3  # letters and figures that alternate, or a run of 16 bytes and more with a figure
UUID: Final = 4
IP: Final = 5  # IPv4, IPv6, MAC; with a port
EMAIL: Final = 6
QUOTED: Final = 7  # one word in quotes
SECRET: Final = 8  # the value behind `password=`, `token:`, `Bearer` …
MASK_LAST: Final = 8
PAD: Final = 40  # bytes behind the last line that are read and written; they are not part of it

_HEX_MIN, _HEX_LETTERS_MIN = 4, 8  # `deadbeef` is a number, `facade` a word
_ID_TURNS_MIN, _ID_BYTES_MIN = 3, 16  # sequences of figures in a run, or its bytes
# Digits between the colons of an address, and colons of one: 63 in a fingerprint. More would be read again from each.
_QUOTED_BYTES_MAX, _GROUP_MAX, _COLONS_MAX = 256, 4, 128
_UUID_BYTES, _UUID_DASHES = 36, (8, 13, 18, 23)
_BLOB_BYTES_MIN, _BLOB = 20, SMALL | CAPITAL | DIGIT  # base64, with a figure before a letter
_EACH, _SIGN, _RUN = np.uint64(0x0101010101010101), np.uint64(2), np.uint64(3)  # bit 0 of 8 bytes; bits of kinds


def _packed(words: Iterable[bytes]) -> tuple[np.uint64, ...]:
    """Return words of up to 8 bytes as numbers, the first byte the lowest."""
    return tuple(np.uint64(int.from_bytes(word, "little")) for word in words)


# Compared in lower case. Units of one letter except B and s count only directly behind figures: `64K`, but not `5 m`.
_UNITS: Final = _packed(UNITS)
_SECRETS: Final = tuple(zip(map(len, SECRET_NAMES), _packed(SECRET_NAMES), strict=True))
_SCHEMES: Final = _packed((b"bearer", b"basic", b"digest"))

_SLASH, _COLON, _DOT, _AT, _EQUALS, _DASH, _PLUS, _SPACE, _ZERO, _B, _S, _T, _X, _Z = b"/:.@=-+ 0BsTxZ"
_QUOTES, _JOINERS, _ASSIGNING, _LOCAL_SIGNS, _VALUE_ENDS = map(tuple, b"'\" .:,/_- '\"=: ._+- \"',;&)}]|".split())


@inlined
def _lower(text: Any, first: Any, stop: Any) -> Any:
    """Return up to 8 bytes as one number, the first the lowest, letters in lower case; other signs are changed too."""
    word, length = load8(text, first) | np.uint64(0x2020202020202020), stop - first
    return word if length >= 8 else word & ((np.uint64(1) << np.uint64(8 * length)) - np.uint64(1))


@njit
def _is_word(byte: Any) -> Any:
    """Return whether the byte is a letter, a figure or a mask."""
    return 97 <= byte | 32 <= 122 or 48 <= byte <= 57 or byte >= 128 or 1 <= byte <= MASK_LAST


@inlined
def _hexadecimal(found: Any) -> Any:
    """Return bit 0 of each of 8 kinds that is a figure or a..f."""
    return (found >> np.uint64(3) | found >> np.uint64(4)) & _EACH


@inlined
def _run_length(kinds: Any, first: Any, bit: Any) -> Any:
    """Return (end, seen): the end of the run, or with bit = _SIGN of the base64, that starts here, and its kinds."""
    end, seen, others = first, np.uint64(0), np.uint64(0)
    while not others:
        found = load8(kinds, end)
        others = ~(_hexadecimal(found) | found >> np.uint64(5) | found >> bit) & _EACH
        bits = first_set(others) if others else 64
        seen |= found & (others & -others) - np.uint64(1)
        end += bits >> 3
    for bits in (32, 16, 8):
        seen |= seen >> np.uint64(bits)
    return end, seen & np.uint64(255)


@inlined
def _is_uuid(text: Any, kinds: Any, first: Any) -> Any:
    for offset in _UUID_DASHES:
        if text[first + offset] != _DASH:
            return False
    each = _hexadecimal(load8(kinds, first)) & _hexadecimal(load8(kinds, first + 24))
    each &= _hexadecimal(load8(kinds, first + 28))
    each &= _hexadecimal(load8(kinds, first + 9)) | np.uint64(1 << 32)  # a dash is byte 5 here and byte 4 below
    each &= _hexadecimal(load8(kinds, first + 15)) | np.uint64(1 << 24)
    return each == _EACH and kinds[first + _UUID_BYTES] < DIGIT


@njit
def _ipv4_stop(text: Any, kinds: Any, first: Any) -> Any:
    """Return the end of an IPv4 address that starts here, with its port; first where there is none."""
    at, dots, figures = first, 0, 0
    while kinds[at] & DIGIT or (text[at] == _DOT and figures and dots < 3):
        dots += text[at] == _DOT
        figures = 0 if text[at] == _DOT else figures + 1
        if figures > 3:
            return first
        at += 1
    if dots < 3 or not figures or kinds[at] >= DIGIT:
        return first
    port = at + 1
    while text[at] == _COLON and kinds[port] & DIGIT:
        port += 1
    return port if port > at + 1 else at


@njit
def _colons_stop(text: Any, kinds: Any, first: Any, inside: Any) -> Any:
    """Return the end of an IPv6 or MAC address from here; first for none, or for `2023:13:55` of a date inside."""
    at, colons, figures, group, doubled = first, 0, 0, 0, False
    while (text[at] == _COLON and colons < _COLONS_MAX) or kinds[at] & (DIGIT | HEX_LETTER):
        if text[at] == _COLON:
            doubled = doubled or (group == 0 and at > first)
            colons, group = colons + 1, 0
        else:
            figures += kinds[at] & DIGIT != 0
            group += 1
            if group > _GROUP_MAX:
                return first
        at += 1
    while at > first and text[at - 1] == _COLON:  # a colon behind the address is not part of it
        at, colons = at - 1, colons - 1
    enough = colons >= (5 if inside else 3) or (doubled and colons >= 2)
    return at if enough and figures and kinds[at] < DIGIT else first


@njit
def _quote_stop(text: Any, kinds: Any, first: Any, begin: Any) -> Any:
    """Return the end of one quoted word whose quote is at first; first for none, or for the name of a JSON member."""
    if first > begin and _is_word(text[first - 1]):  # an apostrophe
        return first
    for at in range(first + 1, first + _QUOTED_BYTES_MAX):
        if kinds[at] < PUNCT:
            return first
        if text[at] == text[first]:
            return first if text[at + 1] == _COLON or kinds[at + 1] >= DIGIT or at == first + 1 else at + 1
    return first


@njit
def _is_mixed(kinds: Any, first: Any, stop: Any) -> Any:
    """Return whether there is a figure with a letter behind it."""
    place = first
    while place < stop and not kinds[place] & DIGIT:
        place += 1
    while place < stop and not kinds[place] & (SMALL | CAPITAL):
        place += 1
    return place < stop


@njit
def _value_range(text: Any, kinds: Any, first: Any, stop: Any) -> Any:
    """Return (start, end) of the value behind a name and `=`, `:`, quotes, blanks from first on; (0, 0) for none."""
    at, assigned, quote = first, False, 0
    while at < stop and (text[at] in _ASSIGNING or kinds[at] < PUNCT):
        if text[at] == _EQUALS or text[at] == _COLON:
            assigned, quote = True, 0
        elif kinds[at] >= PUNCT:
            quote = text[at]
        at += 1
    if not assigned:
        return 0, 0
    end = at if quote else _value_stop(text, kinds, at)
    while quote and end < stop and text[end] != quote:
        end += 1
    if _lower(text, at, end) in _SCHEMES and end < stop and kinds[end] < PUNCT:
        end = _value_stop(text, kinds, end + 1)
    return (at, end) if end > at else (0, 0)


@njit
def _value_stop(text: Any, kinds: Any, first: Any) -> Any:
    at = first
    while kinds[at] >= PUNCT and text[at] not in _VALUE_ENDS:
        at += 1
    return at


@njit
def _is_secret_name(text: Any, first: Any, stop: Any) -> Any:
    found = False
    for length, word in _SECRETS:
        found = found or (stop - first >= length and _lower(text, stop - length, stop) == word)
    return found


@inlined
def _put(out: Any, begin: Any, at: Any, kind: Any) -> Any:
    """Write a mask; merge it with its sign, and with a mask before it that only a point, dash … separates."""
    if at > begin and out[at - 1] in (_PLUS, _DASH) and (at - 1 == begin or not _is_word(out[at - 2])):
        at -= 1
    path = at > begin + 2 and out[at - 1] == _SLASH and _is_word(out[at - 3])  # `/v2/` is not part of a date
    if at >= begin + 2 and out[at - 1] in _JOINERS and 1 <= out[at - 2] <= MASK_LAST and not path:
        at -= 2
        kind = max(kind, out[at])
    out[at] = kind
    return at + 1


@njit
def _is_unit(text: Any, first: Any, stop: Any) -> Any:
    return _lower(text, first, stop) in _UNITS


@inlined
def _run(text: Any, kinds: Any, first: Any, stop: Any, seen: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    length = stop - first
    if not seen & DIGIT:
        if length >= _HEX_LETTERS_MIN and not seen & LETTER and enabled[HEX]:
            return _put(out, begin, at, HEX)
        counted = at > begin + 1 and out[at - 1] == _SPACE and out[at - 2] == NUMBER
        if counted and (length > 1 or text[first] in (_B, _S)) and _is_unit(text, first, stop):
            return at - 1
        return copy_bytes(text, first, stop, out, at)
    if not seen & (LETTER | HEX_LETTER) and enabled[NUMBER]:
        return _put(out, begin, at, NUMBER)
    if not seen & LETTER and length >= _HEX_MIN and enabled[HEX]:
        return _put(out, begin, at, HEX)
    return _mixed(text, kinds, first, stop, enabled, out, begin, at)


@njit
def _mixed(text: Any, kinds: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    """Write a run of figures and letters."""
    turns, hexadecimal, clock = 0, True, True
    prefixed = stop - first > 2 and text[first] == _ZERO and (text[first + 1] | 32) == _X
    for place in range(first + 2 * prefixed, stop):
        if kinds[place] & DIGIT:
            turns += place == first or not kinds[place - 1] & DIGIT
        else:
            hexadecimal = hexadecimal and not kinds[place] & LETTER
            clock = clock and (text[place] == _T or text[place] == _Z)
    joined = at >= begin + 2 and out[at - 1] in _JOINERS and 1 <= out[at - 2] <= MASK_LAST
    if clock and joined and enabled[NUMBER]:
        return _put(out, begin, at, NUMBER)
    if enabled[HEX] and hexadecimal and (prefixed or stop - first >= _HEX_MIN):
        return _put(out, begin, at, HEX)
    if enabled[ID] and (turns >= _ID_TURNS_MIN or stop - first >= _ID_BYTES_MIN):
        return _put(out, begin, at, ID)
    place = first
    while place < stop:  # letters stay, figures are masked: `node<n>`; `64K` becomes one mask
        end, digit = place + 1, kinds[place] & DIGIT
        while end < stop and kinds[end] & DIGIT == digit:
            end += 1
        if digit and enabled[NUMBER]:
            at = _put(out, begin, at, NUMBER)
        elif digit or place == first or end < stop or not _is_unit(text, place, end):
            at = copy_bytes(text, place, end, out, at)
        place = end
    return at


@inlined
def _special(text: Any, kinds: Any, first: Any, end: Any, seen: Any, enabled: Any, inside: Any) -> Any:
    """Return (end, kind) of a masked part that extends beyond its run; first for none. inside: it cannot be base64."""
    sign, length = text[end], end - first
    if not seen & LETTER:
        if enabled[UUID] and sign == _DASH and length == _UUID_DASHES[0] and _is_uuid(text, kinds, first):
            return first + _UUID_BYTES, UUID
        if enabled[IP] and sign in (_DOT, _COLON) and length <= _GROUP_MAX:
            after = _ipv4_stop(text, kinds, first) if sign == _DOT else _colons_stop(text, kinds, first, inside)
            if after > first:
                return after, IP
    if kinds[end] & SIGN and not inside:
        end, seen_behind = _run_length(kinds, end, _SIGN)
        seen |= seen_behind
    is_blob = end - first >= _BLOB_BYTES_MIN and seen & _BLOB == _BLOB and _is_mixed(kinds, first, end)
    return end if is_blob and enabled[SECRET] and not inside else first, SECRET


@njit
def _email(text: Any, kinds: Any, place: Any, out: Any, begin: Any, at: Any) -> Any:
    """Return (place, at) behind an e-mail address with its @ at place; both unchanged where it is none."""
    end, start, dotted = place + 1, at, False
    while kinds[end] >= DIGIT or ((text[end] == _DASH or text[end] == _DOT) and end > place + 1):
        dotted = dotted or (text[end] == _DOT and kinds[end + 1] >= DIGIT)
        end += 1
    while kinds[end - 1] < DIGIT and end > place + 1:
        end -= 1
    while start > begin and (_is_word(out[start - 1]) or out[start - 1] in _LOCAL_SIGNS):
        start -= 1
    if not dotted or start == at:
        return place, at
    out[start] = EMAIL
    return end, start + 1


@njit
def _userinfo_stop(text: Any, kinds: Any, first: Any) -> Any:
    """Return the index of the @ of `://user:password@`, where first is the first colon; else first."""
    at = first + 3
    while kinds[at] >= PUNCT and text[at] != _SLASH and text[at] != _AT:
        at += 1
    return at if text[first + 2] == _SLASH and text[at] == _AT and at > first + 3 else first


@inlined
def _punct(text: Any, kinds: Any, place: Any, first: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    """Write the part that a punctuation mark starts or ends; return (place, at) behind it."""
    byte = text[place]
    if byte in _QUOTES and enabled[QUOTED]:
        end = _quote_stop(text, kinds, place, first)
        if end > place:
            out[at], out[at + 1], out[at + 2] = byte, QUOTED, byte
            return end, at + 3
    if byte == _AT and enabled[EMAIL]:
        end, after = _email(text, kinds, place, out, begin, at)
        if end > place:
            return end, after
    if byte == _COLON and text[place + 1] == _SLASH and enabled[SECRET]:
        end = _userinfo_stop(text, kinds, place)
        if end > place:
            at = copy_bytes(text, place, place + 3, out, at)
            out[at], out[at + 1] = SECRET, _AT
            return end + 1, at + 2
    out[at] = byte
    return place + 1, at + 1


@inlined
def _word(text: Any, kinds: Any, place: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    """Write the part that starts with the run at place; return (place, at) behind it."""
    end, seen = _run_length(kinds, place, _RUN)
    inside = place > first and kinds[place - 1] & SIGN != 0
    if not inside or text[place - 1] == _SLASH:
        after, kind = _special(text, kinds, place, end, seen, enabled, inside)
        if after > place:
            return after, _put(out, begin, at, kind)
    at = _run(text, kinds, place, end, seen, enabled, out, begin, at)
    if enabled[SECRET] and seen & LETTER and _is_secret_name(text, place, end):
        value, value_stop = _value_range(text, kinds, end, stop)
        if value_stop:
            at = copy_bytes(text, end, value, out, at)
            out[at] = SECRET
            return value_stop, at + 1
    return end, at


@inlined
def _plain_stop(text: Any, kinds: Any, first: Any, stop: Any) -> Any:
    """Return (end, mark): the line stays as it is up to end, and is examined from end to mark."""
    mark = first
    while True:
        while not load8(kinds, mark) & _EACH:
            mark += 8
        mark += first_set(load8(kinds, mark) & _EACH) >> 3
        if mark == stop:
            return stop, stop
        at = mark
        if kinds[mark] < DIGIT:
            while at > first and (kinds[at - 1] < PUNCT or text[at - 1] in _ASSIGNING):
                at -= 1
            if not _is_secret_name(text, first, at):
                at = mark
                if text[mark] != _EQUALS and (text[mark] != _COLON or text[mark + 1] == _SLASH):
                    return mark, mark
                while at > first and kinds[at - 1] & (DIGIT | HEX_LETTER):
                    at -= 1
                if at == mark or mark - at > _GROUP_MAX or (at > first and kinds[at - 1] >= DIGIT):
                    mark = first = mark + 1  # never examine bytes twice: a line of `=` would take quadratic time
                    continue
        while at > first and kinds[at - 1] >= SIGN:  # to the place where a secret in base64 would start
            at -= 1
        return at, mark


@njit
def mask_lines(text: Any, kinds: Any, stops: Any, enabled: Any, out: Any, out_stops: Any) -> Any:
    """Mask n lines; return the length of all masked lines, which are written to out without gaps.

    text: uint8, each line with a line feed, then PAD bytes. kinds: of `kinds_of`. stops: int64 (n,), the indices of the
    line feeds. enabled: bool (MASK_LAST + 1,). out: uint8, as long as text, and out_stops: int64 (n,) are written.
    """
    place = at = 0
    for line in range(len(stops)):
        first, stop, begin, mark = place, stops[line], at, place - 1
        while place < stop:
            if kinds[place] < PUNCT:
                if at > begin and out[at - 1] != _SPACE:
                    out[at] = _SPACE
                    at += 1
                place += 1
            elif place > mark and not (at > begin + 1 and out[at - 1] == _SPACE and out[at - 2] == NUMBER):
                plain, mark = _plain_stop(text, kinds, place, stop)
                at, place = copy_bytes(text, place, plain, out, at), plain
            elif kinds[place] < DIGIT:
                place, at = _punct(text, kinds, place, first, enabled, out, begin, at)
            else:
                place, at = _word(text, kinds, place, first, stop, enabled, out, begin, at)
        at -= at > begin and out[at - 1] == _SPACE
        out_stops[line], place = at, stop + 1
    return at
