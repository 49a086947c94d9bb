"""Laws of a gate behind the detectors that drive it, under watermarks that come coarsely and not to both at once.

On a cluster a gate has the lowest watermark of all its inputs: it gets several revisions of an insight between two
advances of its own, and after a restore both watermarks begin anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, cycle
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Stage
from operators.runtime.local import LocalGraph
from state_schemas.contracts.insight import Insight
from tests.support.driving import BEHIND_MS, Timed, checked, courses, insights, last_revisions
from tests.support.machines import stage_of
from tests.support.stories import Story, busy, stories
from tests.support.traffic import OUT_OF_ORDER_MS, START_MS, Sent, displaced, effects, messages, pre_aggregated

# Gate -> the detectors whose outputs it takes.
CHAINS: Final = {
    "novelty": ("error-patterns",),
    "novelty-traces": ("error-patterns", "error-patterns-traces"),
    "log-silence": ("request-effects",),
}
# A window is final 40 s after its start. Its records are sent 10 s and come 24 s later, 5 s before that.
DISPLACED_MS: Final = 24_000
GOING_ON: Final = ("open", "updated")
each_gate = pytest.mark.parametrize("gate", CHAINS)
few = settings(max_examples=settings().max_examples // 5)  # as in test_machines


class Pace(NamedTuple):
    """How often event time advances. events: fed before an advance. gate: whether it reaches the gate as well."""

    events: int
    gate: bool


class Restore(NamedTuple):
    """A restore before one of the advances. behind_ms: of the watermark after it, half of it at each advance."""

    place: int
    behind_ms: int


class Advance(NamedTuple):
    """Events, and the watermarks after them. is_restored: before them the chain is restored, its watermarks too."""

    events: Sequence[Any]
    detectors_ms: int
    gate_ms: int
    is_restored: bool


# Half of the stories have errors, missing lines and late records, with another seed each.
eventful = stories() | st.builds(busy, st.integers(0, 999))
paces = st.lists(st.builds(Pace, st.integers(1, 16), st.booleans()), min_size=1, max_size=6)
restores = st.builds(Restore, st.integers(0, 2**16), st.sampled_from((0, BEHIND_MS, 4 * BEHIND_MS)))


@dataclass
class Chain:
    """Detectors and the gate behind them, each with a watermark of its own."""

    detectors: LocalGraph
    gate: LocalGraph
    held: tuple[type, ...]
    # All revisions that the gate has got.
    detected: list[Insight] = field(default_factory=list)

    @classmethod
    def of(cls, gate: str) -> "Chain":
        stages: list[Stage] = [checked(stage_of(uid)) for uid in CHAINS[gate]]
        last = checked(stage_of(gate))
        return cls(LocalGraph(stages), LocalGraph([last]), last.machine.takes)

    def feed(self, events: Iterable[Any]) -> None:
        for event in events:
            (self.gate if isinstance(event, self.held) else self.detectors).feed((event,))

    def advance(self, detectors_ms: int, gate_ms: int) -> list[Insight]:
        """Return what the gate emits."""
        given = [output for output in self.detectors.advance(detectors_ms) if isinstance(output, self.held)]
        self.detected += insights(given)
        self.gate.feed(given)
        return insights(self.gate.advance(gate_ms))

    def restart(self) -> None:
        self.detectors.restart()
        self.gate.restart()


def events_of(gate: str, sent: Sequence[Sent]) -> list[Timed]:
    """Return the events of the detectors of a gate, and what pre-aggregation sends to the gate itself."""
    taken = tuple(takes for uid in (*CHAINS[gate], gate) for takes in stage_of(uid).machine.takes)
    return [
        (message.timestamp_ms, event)
        for message in sent
        for event in _made_of(message, gate)
        if isinstance(event, taken)
    ]


def _made_of(message: Sent, gate: str) -> Iterator[Any]:
    """Yield what is made of a message. Before the gate of spans, only service-1 logs its exceptions."""
    yield from pre_aggregated(message)
    yield from effects(message)
    if gate != "novelty-traces" or message.spans[0].service == "service-1":
        yield from pre_aggregated(message, "logs")


def advances(events: Sequence[Timed], paces: Sequence[Pace], restore: Restore) -> Iterator[Advance]:
    """Divide the events among advances of event time: the paces in turn, with the restore before one of them."""
    firsts = [0, *accumulate(pace.events for pace, _ in zip(cycle(paces), events, strict=False))]
    firsts = [first for first in firsts if first < len(events)]
    cut = restore.place % len(firsts) if firsts else 0
    newest_ms, gate_ms, behind_ms = START_MS, BEGIN_OF_TIME, 0
    for number, (first, pace) in enumerate(zip(firsts, cycle(paces), strict=False)):
        if number == cut:
            newest_ms, gate_ms, behind_ms = START_MS, BEGIN_OF_TIME, restore.behind_ms
        part = events[first : first + pace.events]
        newest_ms = max(newest_ms, *(timestamp_ms for timestamp_ms, _ in part))
        now_ms = newest_ms - OUT_OF_ORDER_MS - behind_ms
        gate_ms = now_ms if pace.gate else gate_ms
        behind_ms //= 2
        yield Advance([event for _, event in part], now_ms, gate_ms, number == cut)


class Run(NamedTuple):
    """The revisions that the gate has got, and those that it emits at each advance of event time."""

    detected: list[Insight]
    emitted: list[list[Insight]]

    def all(self) -> list[Insight]:
        return list(chain.from_iterable(self.emitted))


def run(gate: str, planned: Iterable[Advance], *, restored: bool = True) -> Run:
    """Run a chain to the end of its input.

    restored: False for the chain that goes on: its event time stands still until the planned one is beyond it.
    """
    machines, detectors_ms, gate_ms = Chain.of(gate), BEGIN_OF_TIME, BEGIN_OF_TIME
    out: list[list[Insight]] = []
    for advance in planned:
        if advance.is_restored and restored:
            machines.restart()
            detectors_ms, gate_ms = BEGIN_OF_TIME, BEGIN_OF_TIME
        machines.feed(advance.events)
        detectors_ms, gate_ms = max(detectors_ms, advance.detectors_ms), max(gate_ms, advance.gate_ms)
        out.append(machines.advance(detectors_ms, gate_ms))
    return Run(machines.detected, [*out, machines.advance(END_OF_INPUT, END_OF_INPUT)])


@each_gate
@few
@given(story=eventful, seed=st.integers(0, 99), paces=paces, restore=restores)
def test_a_restore_changes_no_course_and_each_advance_says_only_what_is_new(
    gate: str, story: Story, seed: int, paces: list[Pace], restore: Restore
) -> None:
    events = events_of(gate, displaced(messages(story), Random(seed), DISPLACED_MS))
    planned = list(advances(events, paces, restore))
    plain, found = (run(gate, planned, restored=restored) for restored in (False, True))
    assert courses(found.all()) == courses(plain.all())
    assert last_revisions(found.all()) == last_revisions(plain.all())
    for each in (plain, found):
        assert_each_says_something_new(each.emitted)
        detected, last = last_revisions(each.detected), last_revisions(each.all())
        assert last == {insight_id: detected.get(insight_id) for insight_id in last}, "emitted, and not to its end"


def assert_each_says_something_new(emitted: Iterable[Sequence[Insight]]) -> None:
    """Assert that an insight opens first, has at most one revision in an advance, and none after its end."""
    newest: dict[str, Insight] = {}
    for at_once in emitted:
        ids = [insight.insight_id for insight in at_once]
        assert len(set(ids)) == len(ids), "two revisions of one insight in one advance of event time"
        for insight in at_once:
            before = newest.get(insight.insight_id)
            status = before.status if before else ""
            assert status != "closed", f"{insight.status} after closed"
            if insight.status in GOING_ON:
                assert insight.status == ("updated" if status in GOING_ON else "open")
            assert insight.status != "retracted" or status in GOING_ON, "retracted, and not emitted before"
            if before is not None:
                assert insight.revision > before.revision
                assert _said(insight) != _said(before), "nothing changed"
            newest[insight.insight_id] = insight


def _said(insight: Insight) -> Insight:
    """Return the insight without its number; `updated` says as much as `open`."""
    return replace(insight, revision=0, status="open" if insight.status in GOING_ON else insight.status)


@each_gate
def test_the_gates_do_emit_insights_that_open_and_close(gate: str) -> None:
    """Without it, the laws above would hold for a gate that emits nothing."""
    planned = advances(events_of(gate, messages(busy())), [Pace(9, gate=True), Pace(4, gate=False)], Restore(0, 0))
    assert {"open", "closed"} <= {insight.status for insight in run(gate, planned).all()}
