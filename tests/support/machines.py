"""The machines of the graph, one stage for each, and their events: made of the messages of a story."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from jobs.graph import stages
from operators.emission import EmitWhen
from operators.machine import Stage
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.aggregates.logs import LogAggregate
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.releases import ServiceReleases
from state_schemas.telemetry.signals import SignalType
from tests.support.driving import Timed, graph_config
from tests.support.rules import rule_events, rule_signals
from tests.support.stories import Episode, Story, busy
from tests.support.traffic import (
    Sent,
    aggregates,
    effects,
    fold,
    messages,
    pre_aggregated,
    sides,
    sightings_of_both,
    silence,
)

SIGNALS: Final[tuple[SignalType, ...]] = ("traces", "logs")
GAP_STORY: Final = Story(windows=40, rate=2, holes=(Episode(1, 4, 2), Episode(1, 14, 16)))
DEPLOY_STORY: Final = Story(windows=40, rate=6, deploys=(Episode(0, 10, 18, 2.0), Episode(1, 20, 20, 3.0)))

# Events of each machine in a message. A new stage has no laws before it is here or in TWINS.
_EVENTS: Final[dict[str, Callable[[Sent], Iterable[Any]]]] = {
    "pre-aggregate-traces": lambda sent: _folded(sent, "traces"),
    "pre-aggregate-logs": lambda sent: _folded(sent, "logs"),
    "call-pairs": sides,
    "latency-spike": aggregates,
    "error-patterns": lambda sent: _of_type(LogAggregate, pre_aggregated(sent, "logs")),
    "novelty-traces": sightings_of_both,
    "request-effects": effects,
    "log-silence": silence,
    "rule-signals": rule_events,
    "sequences": rule_signals,
    "deploys": lambda sent: _of_type(ServiceReleases, pre_aggregated(sent) + pre_aggregated(sent, "logs")),
    "telemetry-gap": lambda sent: _of_type(EnvActivity, pre_aggregated(sent) + pre_aggregated(sent, "logs")),
}
MACHINES: Final = tuple(_EVENTS)
# Stage -> the stage with the same machine that has the laws and the golden state.
TWINS: Final = {
    "pre-aggregate-metrics": "pre-aggregate-logs",
    "error-patterns-traces": "error-patterns",
    "novelty": "novelty-traces",
    "record-sequences": "sequences",
}


def stage_of(uid: str, emit_when: EmitWhen = "early") -> Stage:
    """Return a stage of the graph under the settings of the stories."""
    return next(stage for stage in stages(graph_config(emit_when)) if stage.uid == uid)


def eventful(uid: str) -> list[Sent]:
    """Return the messages of a story in which this machine opens and closes insights."""
    return messages({"telemetry-gap": GAP_STORY, "deploys": DEPLOY_STORY}.get(uid, busy()))


def events_of(uid: str, sent: Iterable[Sent]) -> list[Timed]:
    """Return the events of a stage."""
    return [(message.timestamp_ms, event) for message in sent for event in _EVENTS[uid](message)]


def folded(sent: Iterable[Sent]) -> list[Timed]:
    """Return each message of spans and the message of their log records."""
    return [
        (message.timestamp_ms, event) for message in sent for signal in SIGNALS for event in _folded(message, signal)
    ]


def _folded(sent: Sent, signal: SignalType) -> Iterator[FoldedMessage]:
    message = fold(sent, signal).message
    yield from () if message is None else (message,)


def _of_type(wanted: type, outputs: Iterable[Any]) -> Iterator[Any]:
    return (output for output in outputs if isinstance(output, wanted))
