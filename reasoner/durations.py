"""Durations as people write them in options: 90s, 30m, 12h, 2d."""

from typing import Final

from reasoner.errors import WrongUse

DIGITS_MAX: Final = 9
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 24 * 3_600_000}


def duration_ms(option: str, text: str) -> int:
    """Return the milliseconds of a number of at most 9 digits with a unit. Raises WrongUse, which names the option."""
    number, unit = text[:-1], _UNITS_MS.get(text[-1:])
    is_number = number.isascii() and number.isdigit() and len(number) <= DIGITS_MAX
    if unit is None or not is_number or not int(number):
        message = f"{option} is {text!r:.80}, expected a number of at most 9 digits with s, m, h or d, such as 30m"
        raise WrongUse(message)
    return int(number) * unit


def retention_ms(option: str, text: str) -> int:
    """Return the milliseconds of a duration, -1 for `forever`. Raises WrongUse, which names the option."""
    return -1 if text == "forever" else duration_ms(option, text)
