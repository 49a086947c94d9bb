"""Timelines, one character a window of 10 s: from a drawing to the insights of the graph.

.  twelve spans of 20 ms on two hosts      -  one span of 20 ms
#  the same, those of host-0 take 400 ms   s  one span of 4 s
S  the same, all take 400 ms               !  twelve spans, six of them fail
X  the same, all of them fail              e  twelve spans, one of them fails
(blank) nothing is sent
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from jobs.graph import stages
from operators.emission import EmitWhen
from state_schemas.contracts.insight import Insight
from tests.support.driving import Timed, graph_config, insights, run
from tests.support.traffic import START_MS, WINDOW_MS, OneSpan, Sent, fold
from udfs.detect.telemetry_gap.rule import GapConfig

_NUMBERS = count(1)
_UIDS = ("pre-aggregate-traces", "pre-aggregate-logs", "call-pairs", "latency-spike", "telemetry-gap")


def spans_of(service: str, character: str, start_ms: int) -> Iterator[OneSpan]:
    if character in "-s":
        yield OneSpan(service, start_ms + 5_000, 4_000 if character == "s" else 20, next(_NUMBERS))
        return
    for number in range(12 if character != " " else 0):
        on_first = number % 2 == 0
        slow = character == "S" or (character == "#" and on_first)
        yield OneSpan(
            service=service,
            end_ms=start_ms + 800 * number,
            latency_ms=(400 if slow else 20) + number % 3,
            number=next(_NUMBERS),
            host=f"host-{number % 2}",
            operation=f"GET /{number // 2 % 2}",
            error=character == "X" or (character == "!" and on_first) or (character == "e" and not number),
        )


def sent(lines: dict[str, str], logs: dict[str, str] | None = None) -> list[Sent]:
    """Return one message for each service and window, sent when the window ends.

    logs: by service, `x` for each window in which it writes its only log line.
    """
    messages = []
    for service, line in lines.items():
        written = (logs or {}).get(service, "")
        for window, character in enumerate(line):
            start_ms = START_MS + window * WINDOW_MS
            spans = tuple(span._replace(mute=logs is not None) for span in spans_of(service, character, start_ms))
            lines_written = ((service, start_ms + 1),) if written[window : window + 1] == "x" else ()
            if spans:
                messages.append(Sent(start_ms + WINDOW_MS, spans, 0, 0, lines_written))
    messages.sort(key=lambda message: message.timestamp_ms)
    return [message._replace(offset=offset) for offset, message in enumerate(messages)]


def emitted(messages: Iterable[Sent], emit_when: EmitWhen = "early", services_max: int = 5_000) -> list[Insight]:
    """Return every revision of insights about spans and about no data, in order; no stage of other kinds runs."""
    events: list[Timed] = []
    for message in messages:
        found = [fold(message)]
        if message.logs:
            found.append(fold(message._replace(spans=()), "logs"))
        events += ((message.timestamp_ms, part.message) for part in found if part.message is not None)
    config = replace(graph_config(emit_when, services_max), gap=GapConfig())  # a drawing is as long as needed
    graph = [stage for stage in stages(config) if stage.uid in _UIDS]
    outputs: Sequence[Any] = run(graph, events)
    return insights(outputs)


def brief(found: Iterable[Insight]) -> list[tuple[str, str, str]]:
    return [(insight.kind, insight.service or insight.subject, insight.status) for insight in found]


def last(found: list[Insight]) -> list[Insight]:
    """Return the last revision of each insight, in the order of their first revisions."""
    return list({insight.insight_id: insight for insight in found}.values())


def window_of(at_ms: int) -> int:
    """Return the index of the window in the drawing."""
    return (at_ms - START_MS) // WINDOW_MS
