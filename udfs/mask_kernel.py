"""Masking of log lines at memory speed: what varies from line to line becomes one byte, its kind.

A *run* is a longest stretch of letters and digits; bytes from 0x80 on are letters. Control bytes never come out as
they are: blanks and control bytes are one blank each stretch, and bytes 1..8 stand for a mask.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from udfs.kernels import njit

__all__ = ["EMAIL", "HEX", "ID", "IP", "MASK_LAST", "NUMBER", "QUOTED", "SECRET", "UUID", "mask_lines"]

NUMBER: Final = 1  # digits, with sign, point and unit; times and dates
HEX: Final = 2  # 0x…, or four and more hexadecimal digits with a figure among them
ID: Final = 3  # letters and figures in turn, or a run of 16 and more with a figure in it
UUID: Final = 4
IP: Final = 5  # IPv4, IPv6, MAC; with a port
EMAIL: Final = 6
QUOTED: Final = 7  # one word in quotes
SECRET: Final = 8  # what stands behind `password=`, `token:`, `Bearer` …
MASK_LAST: Final = 8

_HEX_LETTERS_MIN: Final = 8  # `deadbeef` is a number, `facade` a word
_HEX_MIN: Final = 4
_ID_TURNS_MIN: Final = 3  # stretches of figures in a run
_ID_BYTES_MIN: Final = 16
_QUOTED_BYTES_MAX: Final = 256
_UUID_BYTES: Final = 36
_BLOB_BYTES_MIN: Final = 20
_UUID_DASHES: Final = (8, 13, 18, 23)

_BLANK, _PUNCT, _DIGIT, _HEX_LETTER, _LETTER = range(5)


def _class(byte: int) -> int:
    if byte < 33 or byte == 127:
        return _BLANK
    if byte >= 128 or chr(byte).isalpha():
        return _HEX_LETTER if byte in b"abcdefABCDEF" else _LETTER
    return _DIGIT if chr(byte).isdigit() else _PUNCT


def _packed(words: tuple[bytes, ...]) -> NDArray[np.uint64]:
    """Words of up to 8 bytes as sorted numbers, their bytes from the lowest on."""
    return np.array(sorted(int.from_bytes(word, "little") for word in words), np.uint64)


_CLASS: Final = np.array([_class(byte) for byte in range(256)], np.uint8)
# Compared in lower case. Of a single letter only straight behind the figures: `64K`, but `5 m`.
_UNITS: Final = _packed(tuple(b"b kb mb gb tb kib mib gib tib k m g t bytes ns us ms s sec secs seconds min h".split()))
# A name that ends so has a secret for its value: `db_password`, `x-api-key`, `AWS_SECRET_ACCESS_KEY`, `Authorization`.
_SECRETS: Final = tuple(
    (len(word), int.from_bytes(word, "little"))
    for word in (b"password", b"rization", b"passwd", b"secret", b"cookie", b"token", b"pwd", b"key", b"sid")
)
_SCHEMES: Final = _packed((b"bearer", b"basic", b"digest"))

_SLASH, _COLON, _DOT, _AT, _EQUALS, _DASH, _PLUS = (ord(sign) for sign in "/:.@=-+")
_SINGLE_QUOTE, _DOUBLE_QUOTE = (ord(sign) for sign in "'\"")
_JOINERS: Final = tuple(ord(sign) for sign in ".:,/_-")
_LOCAL_SIGNS: Final = tuple(ord(sign) for sign in "._+-")
_BLOB_SIGNS: Final = tuple(ord(sign) for sign in "+/_-")
_VALUE_ENDS: Final = tuple(ord(sign) for sign in "\"',;&)}]|")
_B, _T, _Z, _X, _ZERO, _SPACE = (ord(sign) for sign in "BTZx0 ")


@njit
def _is_in(word: Any, words: Any) -> Any:
    return words[min(np.searchsorted(words, word), len(words) - 1)] == word


@njit
def _lower(text: Any, first: Any, stop: Any) -> Any:
    """Up to 8 bytes as one number, the first the lowest, letters in lower case."""
    word = np.uint64(0)
    for place in range(first, min(stop, first + 8)):
        byte = text[place]
        if 65 <= byte <= 90:
            byte += 32
        word |= np.uint64(byte) << np.uint64(8 * (place - first))
    return word


@njit
def _is_word(byte: Any) -> Any:
    """Letters, figures, masks."""
    return _CLASS[byte] >= _DIGIT or 1 <= byte <= MASK_LAST


@njit
def _is_uuid(text: Any, first: Any, stop: Any) -> Any:
    if first + _UUID_BYTES > stop:
        return False
    for place in range(_UUID_BYTES):
        byte = text[first + place]
        if place in _UUID_DASHES:
            if byte != _DASH:
                return False
        elif _CLASS[byte] != _DIGIT and _CLASS[byte] != _HEX_LETTER:
            return False
    return first + _UUID_BYTES == stop or _CLASS[text[first + _UUID_BYTES]] < _DIGIT


@njit
def _ipv4_stop(text: Any, first: Any, stop: Any) -> Any:
    """End of an IPv4 address that starts here, with its port; first where there is none."""
    at, dots, figures = first, 0, 0
    while at < stop and (_CLASS[text[at]] == _DIGIT or (text[at] == _DOT and figures and dots < 3)):
        dots += text[at] == _DOT
        figures = 0 if text[at] == _DOT else figures + 1
        if figures > 3:
            return first
        at += 1
    if dots < 3 or not figures or (at < stop and _CLASS[text[at]] >= _DIGIT):
        return first
    port = at + 1
    while at < stop and text[at] == _COLON and port < stop and _CLASS[text[port]] == _DIGIT:
        port += 1
    return port if port > at + 1 else at


@njit
def _colons_stop(text: Any, first: Any, stop: Any) -> Any:
    """End of an IPv6 or MAC address that starts here; first where there is none."""
    at, colons, figures, group, doubled = first, 0, 0, 0, False
    while at < stop and (text[at] == _COLON or _CLASS[text[at]] == _DIGIT or _CLASS[text[at]] == _HEX_LETTER):
        if text[at] == _COLON:
            doubled = doubled or (group == 0 and at > first)
            colons, group = colons + 1, 0
        else:
            figures += _CLASS[text[at]] == _DIGIT
            group += 1
            if group > 4:
                return first
        at += 1
    while at > first and text[at - 1] == _COLON:  # a colon behind it is not its own
        at -= 1
        colons -= 1
    enough = colons >= 3 or (doubled and colons >= 2)
    return at if enough and figures and (at == stop or _CLASS[text[at]] < _DIGIT) else first


@njit
def _quote_stop(text: Any, first: Any, begin: Any, stop: Any) -> Any:
    """End of one quoted word whose quote stands at first; first where it is none, or the name of a JSON member."""
    if first > begin and _is_word(text[first - 1]):  # an apostrophe
        return first
    for at in range(first + 1, min(stop, first + _QUOTED_BYTES_MAX)):
        if _CLASS[text[at]] == _BLANK:
            return first
        if text[at] == text[first]:
            is_name = at + 1 < stop and (text[at + 1] == _COLON or _CLASS[text[at + 1]] >= _DIGIT)
            return first if is_name or at == first + 1 else at + 1
    return first


@njit
def _domain_stop(text: Any, first: Any, stop: Any) -> Any:
    """End of a name with a dot in it; first where there is none."""
    at, dot = first, first
    while at < stop and (_CLASS[text[at]] >= _DIGIT or ((text[at] == _DASH or text[at] == _DOT) and at > first)):
        if text[at] == _DOT and at + 1 < stop and _CLASS[text[at + 1]] >= _DIGIT:
            dot = at
        at += 1
    while at > first and _CLASS[text[at - 1]] == _PUNCT:
        at -= 1
    return at if dot > first else first


@njit
def _blob_stop(text: Any, first: Any, stop: Any) -> Any:
    """End of 20 and more bytes of base64 with small and capital letters and a figure before a letter; else first."""
    at, small, capital, figure, mixed = first, False, False, False, False
    while at < stop and (_CLASS[text[at]] >= _DIGIT or text[at] in _BLOB_SIGNS):
        byte = text[at]
        is_small, is_capital = 97 <= byte <= 122, 65 <= byte <= 90
        mixed = mixed or (figure and (is_small or is_capital))
        small, capital, figure = small or is_small, capital or is_capital, figure or _CLASS[byte] == _DIGIT
        at += 1
    return at if at - first >= _BLOB_BYTES_MIN and small and capital and mixed else first


@njit
def _value_range(text: Any, first: Any, stop: Any) -> Any:
    """(start, end) of the value behind a name that ends at first: `=`, `:`, quotes, blanks between; else (0, 0)."""
    at, assigned, quote = first, False, 0
    while at < stop and (text[at] in (_SINGLE_QUOTE, _DOUBLE_QUOTE, _EQUALS, _COLON) or _CLASS[text[at]] == _BLANK):
        if text[at] == _EQUALS or text[at] == _COLON:
            assigned, quote = True, 0
        elif _CLASS[text[at]] != _BLANK:
            quote = text[at]
        at += 1
    if not assigned:
        return 0, 0
    end = at if quote else _value_stop(text, at, stop)
    while quote and end < stop and text[end] != quote:
        end += 1
    if _is_in(_lower(text, at, end), _SCHEMES) and end < stop and _CLASS[text[end]] == _BLANK:
        end = _value_stop(text, end + 1, stop)
    return (at, end) if end > at else (0, 0)


@njit
def _value_stop(text: Any, first: Any, stop: Any) -> Any:
    at = first
    while at < stop and _CLASS[text[at]] != _BLANK and text[at] not in _VALUE_ENDS:
        at += 1
    return at


@njit
def _is_secret_name(text: Any, first: Any, stop: Any) -> Any:
    for length, word in _SECRETS:
        if stop - first >= length and _lower(text, stop - length, stop) == np.uint64(word):
            return True
    return False


@njit
def _put(out: Any, begin: Any, at: Any, kind: Any) -> Any:
    """Write a mask, joined with its sign, and with a mask before it that only a point, dash … sets apart."""
    if at > begin and out[at - 1] in (_PLUS, _DASH) and (at - 1 == begin or not _is_word(out[at - 2])):
        at -= 1
    path = at > begin + 2 and out[at - 1] == _SLASH and _is_word(out[at - 3])  # `/v2/` is no part of a date
    if at >= begin + 2 and out[at - 1] in _JOINERS and 1 <= out[at - 2] <= MASK_LAST and not path:
        at -= 2
        kind = max(kind, out[at])
    out[at] = kind
    return at + 1


@njit
def _copy(text: Any, first: Any, stop: Any, out: Any, at: Any) -> Any:
    for place in range(first, stop):
        out[at] = text[place]
        at += 1
    return at


@njit
def _run(text: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    figures, turns, hexadecimal, clock = 0, 0, True, True
    prefixed = stop - first > 2 and text[first] == _ZERO and (text[first + 1] | 32) == _X
    for place in range(first + 2 * prefixed, stop):
        kind = _CLASS[text[place]]
        if kind == _DIGIT:
            figures += 1
            turns += place == first or _CLASS[text[place - 1]] != _DIGIT
        else:
            hexadecimal = hexadecimal and kind == _HEX_LETTER
            clock = clock and (text[place] == _T or text[place] == _Z)
    length = stop - first
    if not figures and not prefixed:
        if hexadecimal and length >= _HEX_LETTERS_MIN and enabled[HEX]:
            return _put(out, begin, at, HEX)
        counted = at > begin + 1 and out[at - 1] == _SPACE and out[at - 2] == NUMBER
        if counted and (length > 1 or text[first] == _B) and length <= 8 and _is_in(_lower(text, first, stop), _UNITS):
            return at - 1
        return _copy(text, first, stop, out, at)
    joined = at >= begin + 2 and out[at - 1] in _JOINERS and 1 <= out[at - 2] <= MASK_LAST
    if (figures == length or (clock and joined)) and enabled[NUMBER]:
        return _put(out, begin, at, NUMBER)
    if enabled[HEX] and hexadecimal and (prefixed or length >= _HEX_MIN):
        return _put(out, begin, at, HEX)
    if enabled[ID] and (turns >= _ID_TURNS_MIN or length >= _ID_BYTES_MIN):
        return _put(out, begin, at, ID)
    return _pieces(text, first, stop, enabled, out, begin, at)


@njit
def _pieces(text: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    """Letters as they are, figures masked: `node<n>`, and `64K` as a whole."""
    place = first
    while place < stop:
        end = place + 1
        is_digit = _CLASS[text[place]] == _DIGIT
        while end < stop and (_CLASS[text[end]] == _DIGIT) == is_digit:
            end += 1
        if is_digit and enabled[NUMBER]:
            at = _put(out, begin, at, NUMBER)
        elif is_digit or place == first or end < stop or not _is_in(_lower(text, place, end), _UNITS):
            at = _copy(text, place, end, out, at)
        place = end
    return at


@njit
def _special(text: Any, first: Any, stop: Any, enabled: Any) -> Any:
    """(end, kind) of what starts here and is more than one run; end is first where nothing is."""
    kind = _CLASS[text[first]]
    if enabled[UUID] and kind < _LETTER and _is_uuid(text, first, stop):
        return first + _UUID_BYTES, UUID
    if enabled[IP] and kind < _LETTER:
        end = max(_ipv4_stop(text, first, stop), _colons_stop(text, first, stop))
        if end > first:
            return end, IP
    if enabled[SECRET]:
        return _blob_stop(text, first, stop), SECRET
    return first, SECRET


@njit
def _email(text: Any, place: Any, stop: Any, out: Any, begin: Any, at: Any) -> Any:
    """(place, at) behind an address whose @ stands at place; both unchanged where it is none."""
    end = _domain_stop(text, place + 1, stop)
    start = at
    while start > begin and (_is_word(out[start - 1]) or out[start - 1] in _LOCAL_SIGNS):
        start -= 1
    if end == place + 1 or start == at:
        return place, at
    out[start] = EMAIL
    return end, start + 1


@njit
def _userinfo_stop(text: Any, first: Any, stop: Any) -> Any:
    """Where the @ of `://user:password@` stands, first being its colon; else first."""
    if first + 3 >= stop or text[first + 1] != _SLASH or text[first + 2] != _SLASH:
        return first
    at = first + 3
    while at < stop and _CLASS[text[at]] != _BLANK and text[at] != _SLASH:
        if text[at] == _AT:
            return at if at > first + 3 else first
        at += 1
    return first


@njit
def _punct(text: Any, place: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any, at: Any) -> Any:
    """(place, at) behind what a punctuation mark starts or ends."""
    byte = text[place]
    if byte in (_SINGLE_QUOTE, _DOUBLE_QUOTE) and enabled[QUOTED]:
        end = _quote_stop(text, place, first, stop)
        if end > place:
            out[at], out[at + 1], out[at + 2] = byte, QUOTED, byte
            return end, at + 3
    if byte == _AT and enabled[EMAIL]:
        end, after = _email(text, place, stop, out, begin, at)
        if end > place:
            return end, after
    if byte == _COLON and enabled[SECRET]:
        end = _userinfo_stop(text, place, stop)
        if end > place:
            at = _copy(text, place, place + 3, out, at)
            out[at], out[at + 1] = SECRET, _AT
            return end + 1, at + 2
    out[at] = byte
    return place + 1, at + 1


@njit
def _mask_line(text: Any, first: Any, stop: Any, enabled: Any, out: Any, begin: Any) -> Any:
    """Masks text[first:stop] into out from begin on; returns the end, at most begin + stop - first."""
    place, at = first, begin
    while place < stop:
        kind = _CLASS[text[place]]
        if kind == _BLANK:
            if at > begin and out[at - 1] != _SPACE:
                out[at] = _SPACE
                at += 1
            place += 1
            continue
        if kind == _PUNCT:
            place, at = _punct(text, place, first, stop, enabled, out, begin, at)
            continue
        if place == first or text[place - 1] not in _BLOB_SIGNS:
            end, special = _special(text, place, stop, enabled)
            if end > place:
                at, place = _put(out, begin, at, special), end
                continue
        end = place + 1
        while end < stop and _CLASS[text[end]] >= _DIGIT:
            end += 1
        at = _run(text, place, end, enabled, out, begin, at)
        if enabled[SECRET] and _is_secret_name(text, place, end):
            value, value_stop = _value_range(text, end, stop)
            if value_stop:
                at = _copy(text, end, value, out, at)
                out[at] = SECRET
                at, end = at + 1, value_stop
        place = end
    return at - (at > begin and out[at - 1] == _SPACE)


@njit
def mask_lines(text: Any, stops: Any, enabled: Any, out: Any, out_stops: Any) -> Any:
    """Masks n lines that lie one behind another in text.

    text: uint8. stops: int64 (n,), the end of each line. enabled: bool (MASK_LAST + 1,) by kind of mask.
    out: uint8, as long as text, and out_stops: int64 (n,) are written.
    """
    first = at = 0
    for line in range(len(stops)):
        at = _mask_line(text, first, stops[line], enabled, out, at)
        out_stops[line] = at
        first = stops[line]
    return at
