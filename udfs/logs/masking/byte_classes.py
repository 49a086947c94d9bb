"""Kinds of the bytes of lines, with a mark on each byte at which a masked part could start or end.

Most of a line is words that stay as they are. This module separates them from the rest by comparisons only, which the
compiler turns into vector instructions, 0.1 ns a byte. `udfs.logs.masking.kernel` decides about marked bytes one by
one.
"""

from typing import Any, Final

import numpy as np

from udfs.compiled import njit

__all__ = [
    "BLANK",
    "CAPITAL",
    "DIGIT",
    "HEX_LETTER",
    "LETTER",
    "MARK",
    "PUNCT",
    "SECRET_NAMES",
    "SIGN",
    "SMALL",
    "UNITS",
    "kinds_of",
]

# Kinds, one for each byte; bytes from 0x80 on are letters. Kinds from SIGN on occur in base64, from DIGIT on in a run.
# `udfs.logs.masking.kernel` has these numbers and names compiled in: its copy on disk is renewed only when that file
# changes.
BLANK, PUNCT, SIGN, DIGIT, HEX_LETTER, LETTER = (np.uint8(kind) for kind in (0, 2, 4, 8, 16, 32))
MARK, CAPITAL, SMALL = (np.uint8(flag) for flag in (1, 64, 128))  # added to a kind; the last two to ASCII letters

# The value behind a name with one of these endings is a secret:
# `db_password`, `x-api-key`, `AWS_SECRET_ACCESS_KEY`, `Authorization`.
SECRET_NAMES: Final = (b"password", b"rization", b"passwd", b"secret", b"cookie", b"token", b"pwd", b"key", b"sid")
# Units: behind a figure they are part of the number, so that `1 second`, `900 ms` and `2.5 s` are the same.
UNITS: Final = (
    *b"b kb mb gb tb kib mib gib tib k m g t byte bytes ns us ms s sec secs second seconds".split(),
    *b"min mins minute minutes h hour hours day days".split(),
)
_LAST, _LAST_BUT_ONE = (tuple({name[-index] for name in SECRET_NAMES}) for index in (1, 2))

_CASE: Final = np.uint8(32)
_SPACE, _SLASH, _COLON, _EQUALS, _AT, _DELETE = (ord(sign) for sign in " /:=@\x7f")
_PLUS, _DASH, _UNDERSCORE = (ord(sign) for sign in "+-_")
_SINGLE_QUOTE, _DOUBLE_QUOTE, _ZERO, _NINE, _A, _F, _Z = (ord(sign) for sign in "'\"09afz")


@njit
def _is_blank(byte: Any) -> Any:
    return (byte <= _SPACE) | (byte == _DELETE)


@njit
def _is_hex_letter(byte: Any) -> Any:
    return ((byte | _CASE) >= _A) & ((byte | _CASE) <= _F)


@njit
def _is_digit(byte: Any) -> Any:
    return (byte >= _ZERO) & (byte <= _NINE)


@njit
def _kind(byte: Any) -> Any:
    letter = ((byte | _CASE) >= _A) & ((byte | _CASE) <= _Z)
    kind = SIGN if (byte == _PLUS) | (byte == _SLASH) | (byte == _UNDERSCORE) | (byte == _DASH) else PUNCT
    kind = BLANK if _is_blank(byte) else kind
    kind = LETTER if letter | (byte >= 128) else kind
    kind = HEX_LETTER if _is_hex_letter(byte) else kind
    kind = DIGIT if _is_digit(byte) else kind
    kind |= CAPITAL if letter & (byte < _A) else BLANK
    return kind | (SMALL if letter & (byte >= _A) else BLANK)


@njit
def _is_among(byte: Any, letters: Any) -> Any:
    found = False
    for letter in letters:
        found |= (byte | _CASE) == letter
    return found


@njit
def kinds_of(text: Any, kinds: Any, pairs: Any) -> None:
    """Write the kind of each byte, and add MARK to it where the byte is marked.

    Marked bytes are: figures; the eighth of eight letters a..f in a row; quotes; @; all blanks except a single space;
    `=` and `:` behind a possible end of the name of a secret, or behind a quote, a blank or another byte below `A`;
    `:` also behind a..f and before a slash.

    text: uint8, its last byte is not part of a line. kinds: uint8, as long as text, is written. pairs: uint8, as long
    as text, is scratch.
    """
    for at in range(len(text)):
        kinds[at] = _kind(text[at]) | (MARK if at < 3 else BLANK)
        pairs[at] = BLANK
    for at in range(len(text) - 3):  # with offsets down from the index the compiler makes no vectors
        byte, before = text[at + 2], text[at + 1]
        behind = (before < _A - _CASE) | (_is_among(text[at], _LAST_BUT_ONE) & _is_among(before, _LAST))
        address = _is_hex_letter(before) | (text[at + 3] == _SLASH)
        marked = (_is_blank(byte) & ((byte != _SPACE) | _is_blank(before))) | _is_digit(byte) | (byte == _AT)
        marked |= ((byte == _EQUALS) & behind) | ((byte == _COLON) & (behind | address))
        marked |= (byte == _SINGLE_QUOTE) | (byte == _DOUBLE_QUOTE)
        kinds[at + 2] |= MARK if marked else BLANK
        pairs[at + 2] = _is_hex_letter(byte) & _is_hex_letter(before)
    for at in range(len(text) - 10):
        kinds[at + 9] |= pairs[at + 3] & pairs[at + 5] & pairs[at + 7] & pairs[at + 9]
