"""Insights as an on-call engineer reads them: which are shown, and the text of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, get_args

from reasoner.errors import WrongUse, nearest
from state_schemas.contracts.insight import Insight, Kind, Severity
from udfs.insights.wording import elapsed

HOUR_MS: Final = 3_600_000
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
STATUSES: Final = ("open", "closed")  # `open` is one that goes on, with or without an update
COLOURS: Final[Mapping[Severity, str]] = {"critical": "red", "warning": "yellow"}
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160)), "\ufffd")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which insights are shown. Empty fields select all."""

    env: str = ""
    service: str = ""
    kind: str = ""
    severity: str = ""
    status: str = ""

    def __post_init__(self) -> None:
        known = {"kind": get_args(Kind), "severity": SEVERITIES, "status": STATUSES}
        faults = [
            f"--{name} is {getattr(self, name)!r}; {nearest(getattr(self, name), names)}"
            for name, names in known.items()
            if getattr(self, name) not in ("", *names)
        ]
        if faults:
            raise WrongUse("; ".join(faults))

    def takes(self, insight: Insight) -> bool:
        """Return whether the insight is one of them. `--severity` selects insights of at least that severity."""
        return (
            self.env in ("", insight.env)
            and self.service in ("", insight.service)
            and self.kind in ("", insight.kind)
            and self.status in ("", "closed" if insight.status == "closed" else "open")
            and (not self.severity or SEVERITIES.index(insight.severity) >= SEVERITIES.index(self.severity))
        )


def since_ms(text: str, now_ms: int) -> int:
    """Return the event time of `--since`, such as 90s, 30m, 12h, 2d before now_ms. Raises WrongUse."""
    number, unit = text[:-1], _UNITS_MS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()):
        message = f"--since is {text!r}, expected a number with s, m, h or d, such as 30m"
        raise WrongUse(message)
    return now_ms - int(number) * unit


def is_open(insight: Insight) -> bool:
    return insight.status in ("open", "updated")


def shown(held: Iterable[Insight], wanted: Wanted, from_ms: int) -> list[Insight]:
    """Return the wanted insights that are open or whose window ends after from_ms, in the order in which they come."""
    return [i for i in held if wanted.takes(i) and (is_open(i) or i.window.end_ms >= from_ms)]


def head(insight: Insight) -> str:
    """Return the first line of an insight: start, severity, status with its length, id."""
    length = elapsed(insight.window.end_ms - insight.window.start_ms)
    course = f"{insight.status} {length}" if is_open(insight) else f"{insight.status} after {length}"
    return f"{moment(insight.window.start_ms)}  {insight.severity:8}  {course:20}  {insight.insight_id}"


def body(insight: Insight) -> str:
    """Return the second line: environment and title, and the reason of an end."""
    reason = f" ({insight.reason})" if insight.reason else ""
    # Texts of telemetry must not control a terminal.
    return f"    {insight.env}  {insight.title}{reason}".translate(_CONTROLS)


def moment(at_ms: int) -> str:
    """Return a time in UTC as MM-DD HH:MM:SS."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S")


def summary(held: Iterable[Insight]) -> str:
    """Return a line about the open insights: how many, and the worst: by severity, then the one that lasts longest."""
    open_now = [insight for insight in held if is_open(insight)]
    if not open_now:
        return "no insight is open"
    counts = {name: sum(insight.severity == name for insight in open_now) for name in reversed(SEVERITIES)}
    listed = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    worst = min(open_now, key=lambda i: (-SEVERITIES.index(i.severity), i.window.start_ms, i.insight_id))
    return f"{len(open_now)} open ({listed}); worst: {worst.title}".translate(_CONTROLS)
