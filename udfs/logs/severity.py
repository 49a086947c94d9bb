"""Severity of a log record: from its severity number, else its severity text, else a level in its line."""

from types import MappingProxyType
from typing import Final

from udfs.linear import expression

__all__ = ["WARN", "severity_of"]

WARN: Final = 13
_HEAD_CHARS: Final = 128  # a level is near the beginning of a line

# OpenTelemetry logs data model, "Mapping of SeverityNumber" and its appendix B (example mappings).
_NUMBERS: Final = MappingProxyType(
    {
        **dict.fromkeys(("trace", "verbose", "finest", "finer"), 1),
        **dict.fromkeys(("debug", "fine", "config"), 5),
        **dict.fromkeys(("info", "information", "informational"), 9),
        "notice": 10,
        **dict.fromkeys(("warn", "warning"), WARN),
        **dict.fromkeys(("error", "err", "severe"), 17),
        **dict.fromkeys(("critical", "crit", "dpanic"), 18),
        **dict.fromkeys(("alert", "panic"), 19),
        **dict.fromkeys(("fatal", "emerg", "emergency"), 21),
    }
)
# A level in capitals anywhere in the head, or in any case in brackets or behind `level=`. Other words are not a level:
# "an error occurred".
_CAPITALS: Final = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|CRIT|ALERT|PANIC|FATAL|EMERG"
_LEVEL: Final = expression(
    rf"\b({_CAPITALS})\b|\[((?i:{_CAPITALS}))\]|\b(?i:level|severity|lvl)[\"']?[=:]\s*[\"']?([A-Za-z]+)".encode()
)


def severity_of(number: int, text: str, line: str) -> int:
    """Return a severity number of OTel, 1..24, or 0 where the record has no severity."""
    if 1 <= number <= 24:
        return number
    known = _NUMBERS.get(text.strip().lower())
    if known is not None:
        return known
    for match in _LEVEL.finditer(line[:_HEAD_CHARS].encode(errors="replace")):
        known = _NUMBERS.get(match[match.lastindex or 0].decode().lower())
        if known is not None:
            return known
    return 0
