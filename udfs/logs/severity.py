"""How loud a log record is: its severity number, else its severity text, else what its line says of itself."""

import re
from types import MappingProxyType
from typing import Final

__all__ = ["WARN", "severity_of"]

WARN: Final = 13
_HEAD_CHARS: Final = 128  # a level stands near the beginning of a line

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
# In capitals anywhere in the head, in any case in brackets or behind `level=`: "an error occurred" is no level.
_CAPITALS: Final = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|CRIT|ALERT|PANIC|FATAL|EMERG"
_SAID: Final = re.compile(
    rf"\b(?P<capitals>{_CAPITALS})\b"
    rf"|\[(?P<bracket>(?i:{_CAPITALS}))\]"
    rf"|\b(?i:level|severity|lvl)[\"']?[=:]\s*[\"']?(?P<named>[A-Za-z]+)"
)


def severity_of(number: int, text: str, line: str) -> int:
    """A severity number of OTel, 1..24; 0 where nothing says it."""
    if 1 <= number <= 24:
        return number
    known = _NUMBERS.get(text.strip().lower())
    if known is not None:
        return known
    for said in _SAID.finditer(line[:_HEAD_CHARS]):
        known = _NUMBERS.get((said["capitals"] or said["bracket"] or said["named"]).lower())
        if known is not None:
            return known
    return 0
