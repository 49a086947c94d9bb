"""Insights as an on-call engineer reads them: which are shown, and the text of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, get_args
from urllib.parse import quote

from reasoner.clients.insight_topic import Hidden
from reasoner.durations import duration_ms
from reasoner.errors import WrongUse, nearest
from state_schemas.contracts.insight import Insight, Kind, Severity
from state_schemas.contracts.settings import Links
from udfs.insights.wording import elapsed

CHECKPOINT_MS: Final = 15_000  # that a checkpoint takes, at most, on a healthy cluster
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
STATUSES: Final = ("open", "closed")  # `open` is one that goes on, with or without an update
COLOURS: Final[Mapping[Severity, str]] = {"critical": "red", "warning": "yellow"}
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
    return now_ms - duration_ms("--since", text)


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


def links(insight: Insight, templates: Links) -> list[str]:
    """Return the addresses of the insight's first trace and of its logs, of those for which there is a template."""
    first = next((trace.trace_id for trace in insight.evidence.traces), "")
    values = {
        "trace_id": first,
        "env": insight.env,
        "namespace": insight.namespace,
        "service": insight.service,
        "from_ms": str(insight.window.start_ms),
        "to_ms": str(insight.window.end_ms),
    }
    wanted = (templates.trace if first else "", templates.logs if insight.service else "")
    return [filled(template, values) for template in wanted if template]


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return an address with the values, percent-encoded, in place of their names in braces; other braces stay."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


def stays_hidden(found: Hidden, now_ms: int, interval_ms: int) -> bool:
    """Return whether a transaction is open for longer than between two checkpoints, or for an unknown time."""
    return found.since_ms is None or now_ms - found.since_ms > interval_ms + CHECKPOINT_MS


def hidden_text(topic: str, found: Hidden) -> str:
    """Return the sentence for a reader, who would take the state before these messages for the newest."""
    since = f" since {moment(found.since_ms)}" if found.since_ms is not None else ""
    return (
        f"messages of {topic} are not committed{since} ({found.messages} offsets): they become visible at the "
        "next checkpoint; if the job was cancelled or killed, `reasoner transactions abort --config FILE` ends its "
        "transaction"
    )


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
