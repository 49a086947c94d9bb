"""Laws of the matcher of sequence rules: it finds what a search over all combinations of signals finds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from state_schemas.aggregates.rule_signals import RuleHit, ServiceEdge, Signal
from state_schemas.contracts.rules import RELATIONS
from udfs.rules.matching import Match, advance
from udfs.rules.plan import SequencePlan, StepPlan
from udfs.rules.relations import Edges, Relation

END_MS = 1_000
HOSTS = (("h",), ("i",), ("h", "i"))
# Of a signal: its service, its hosts, its part of a step and its value.
FIELDS = list(product("aabc", HOSTS, (0, 1), "xy"))
EDGES = [ServiceEdge(caller, callee) for caller in "abc" for callee in "abc"]
# Most services call each other, so that there are matches.
GRAPHS = [set(EDGES).difference(missing) for number in range(4) for missing in combinations(EDGES, number)]
Hit = tuple[Signal, RuleHit]
Chosen = tuple[tuple[Hit, ...], ...]


class Found(NamedTuple):
    """A match: when it is complete, the signal of the last step that came, and the time of the first."""

    at_ms: int
    last: str
    first_ms: int


@st.composite
def plans(draw: st.DrawFn) -> SequencePlan:
    steps: list[StepPlan] = []
    count = draw(st.integers(1, 4))
    for number in range(count):
        is_last, within_ms = number == count - 1, draw(st.integers(1, 12))
        kinds = ["one", "one", "count", "distinct", "parts"]
        after_absent = bool(steps and steps[-1].absent_ms)
        kinds += ["absent"] if number and not after_absent and not (steps and steps[-1].optional) else []
        kinds += ["optional"] if number and not is_last and not after_absent else []
        step = step_of(draw(st.sampled_from(kinds)), within_ms)
        steps.append(replace(step, relations=draw(relations(steps))))
    return SequencePlan(tuple(steps), draw(st.integers(max(step.within_ms for step in steps), 30)))


@st.composite
def relations(draw: st.DrawFn, earlier: Sequence[StepPlan]) -> tuple[Relation, ...]:
    """Draw relations to earlier steps that always have one signal."""
    usable = [n for n, step in enumerate(earlier) if step.wanted == 1 and not (step.absent_ms or step.optional)]
    found = [Relation(name, number) for name in RELATIONS for number in usable]
    return draw(st.sampled_from([(), *((one,) for one in found * 3), *combinations(found, 2)]))


def step_of(kind: str, within_ms: int) -> StepPlan:
    return {
        "one": StepPlan(within_ms),
        "count": StepPlan(within_ms, count=2),
        "distinct": StepPlan(within_ms, count=2, distinct=True),
        "parts": StepPlan(within_ms, parts=2),
        "absent": StepPlan(within_ms, absent_ms=within_ms),
        "optional": StepPlan(within_ms, optional=True),
    }[kind]


@st.composite
def streams(draw: st.DrawFn, plan: SequencePlan) -> list[Hit]:
    """Draw signals: those of a match, mostly, and others; some fulfil two steps."""
    last, at_ms = len(plan.steps) - 1, 1
    places: list[tuple[int, int]] = []
    for number, step in enumerate(plan.steps):
        for _ in range(step.wanted if draw(st.integers(0, 5)) else 0):
            at_ms += draw(st.integers(0, max(1, step.within_ms // step.wanted)))
            places += [] if step.absent_ms else [(at_ms, number)]
    strays = st.tuples(st.integers(1, 25), st.integers(0, last))
    places += draw(st.lists(strays, max_size=max(0, 9 - len(places))))
    hits = []
    for number, (time_ms, step_number) in enumerate(places):
        service, hosts, part, value = draw(st.sampled_from(FIELDS))
        signal = Signal(time_ms, f"{number}", 0, "insight", service, "", hosts=hosts)
        steps = {step_number, draw(st.integers(0, last))} if draw(st.integers(0, 3)) == 0 else {step_number}
        hits += [(signal, RuleHit("r@1", one, part, value)) for one in sorted(steps)]
    return hits


def searched(plan: SequencePlan, hits: Sequence[Hit], edges: Edges) -> set[Found]:
    """Search all combinations of signals; of the matches with one end the one that begins last counts."""
    best: dict[tuple[int, str], int] = {}
    for chosen in ways(plan, hits, edges, ()):
        ends = [max(signal.at_ms for signal, _ in part) for part in chosen if part]
        at_ms = ends[-1] + plan.absence_ms
        last = max(chosen[-1 if not plan.absence_ms else -2], key=order)[0].signal_id
        first_ms = min(signal.at_ms for signal, _ in chosen[0])
        if at_ms < END_MS and ends[-1] - first_ms <= plan.within_ms:
            best[at_ms, last] = max(first_ms, best.get((at_ms, last), 0))
    return {Found(at_ms, last, first_ms) for (at_ms, last), first_ms in best.items()}


def order(hit: Hit) -> tuple[int, int, str]:
    return hit[0].at_ms, hit[1].step, hit[0].signal_id


def related(step: StepPlan, hit: Hit, chosen: Chosen, edges: Edges) -> bool:
    """Return whether a signal has the relations of its step to those chosen for earlier steps."""
    for name, number in step.relations:
        ((earlier, _),) = chosen[number]
        if name == "same_host" and not set(hit[0].hosts) & set(earlier.hosts):
            return False
        if name == "calls" and (hit[0].service, earlier.service) not in edges:
            return False
        if name == "called_by" and (earlier.service, hit[0].service) not in edges:
            return False
    return True


def ways(plan: SequencePlan, hits: Sequence[Hit], edges: Edges, chosen: Chosen) -> Iterator[Chosen]:
    """Yield each choice of the signals of all steps, () for a step that is left out or must not come."""
    number = len(chosen)
    if number == len(plan.steps):
        yield chosen
        return
    step, ended_ms = plan.steps[number], next((max(s.at_ms for s, _ in part) for part in chosen[::-1] if part), None)
    of_step = [hit for hit in hits if hit[1].step == number and related(step, hit, chosen, edges)]
    if step.absent_ms:
        until_ms = (ended_ms or 0) + step.absent_ms
        last_id = max(next(part for part in chosen[::-1] if part), key=order)[
            0
        ].signal_id  # it does not come after itself
        if number == len(plan.steps) - 1:
            if not any((ended_ms or 0) <= s.at_ms <= until_ms and s.signal_id != last_id for s, _ in of_step):
                yield from ways(plan, hits, edges, (*chosen, ()))
            return
        for rest in ways(plan, hits, edges, (*chosen, ())):
            next_ms = max(s.at_ms for s, _ in rest[number + 1])
            if not any(
                (ended_ms or 0) <= s.at_ms <= min(until_ms, next_ms) and s.signal_id != last_id for s, _ in of_step
            ):
                yield rest
        return
    if step.optional:
        yield from ways(plan, hits, edges, (*chosen, ()))
    for part in combinations(of_step, step.wanted):
        times = [signal.at_ms for signal, _ in part]
        slots = {hit.part if step.parts > 1 else (hit.value if step.distinct else s.signal_id) for s, hit in part}
        before = next((part for part in chosen[::-1] if part), ())
        is_new = not {s.signal_id for s, _ in part} & {s.signal_id for one in chosen for s, _ in one}
        may_tie = len(part) == len(before) == 1 and is_new
        follows = ended_ms is None or (
            (min(times) > ended_ms or (may_tie and times == [ended_ms])) and max(times) - ended_ms <= step.within_ms
        )
        if len(slots) == step.wanted and max(times) - min(times) <= step.within_ms and follows:
            yield from ways(plan, hits, edges, (*chosen, part))


# An example takes a millisecond.
many = settings(max_examples=settings().max_examples * 10)


@many
@given(data=st.data(), plan=plans())
def test_the_matcher_finds_what_a_search_over_all_combinations_finds(data: st.DataObject, plan: SequencePlan) -> None:
    hits, edges = data.draw(streams(plan)), data.draw(st.sampled_from(GRAPHS))
    found = advance(plan, plan.begin, hits, END_MS, edges)
    assert {of(match) for match in found.matches} == searched(plan, hits, edges)
    assert not found.given_up


def of(match: Match) -> Found:
    last = match.match.last_id
    return Found(match.at_ms, last, match.match.first_ms)


@many
@given(data=st.data(), plan=plans(), cuts=st.sets(st.integers(1, 40), max_size=5))
def test_where_the_stream_is_cut_changes_no_match(data: st.DataObject, plan: SequencePlan, cuts: set[int]) -> None:
    hits, edges = data.draw(streams(plan)), data.draw(st.sampled_from(GRAPHS))
    progress, matches, since_ms = plan.begin, list[Match](), 0
    for until_ms in (*sorted(cuts), END_MS):
        part = [hit for hit in hits if since_ms <= hit[0].at_ms < until_ms]
        advanced = advance(plan, progress, part, until_ms, edges)
        progress, since_ms = advanced.progress, until_ms
        matches += advanced.matches
    assert matches == list(advance(plan, plan.begin, hits, END_MS, edges).matches)


def test_of_partial_matches_that_end_and_begin_alike_the_tightest_goes_on_wherever_the_stream_is_cut() -> None:
    steps = (StepPlan(4), StepPlan(4, optional=True), StepPlan(4), StepPlan(1))
    plan = SequencePlan(steps, 5)
    hits = [
        (Signal(at_ms, name, 0, "insight", "a", ""), RuleHit("r@1", step, 0))
        for at_ms, name, step in ((3, "0", 0), (7, "4", 1), (7, "2", 2), (8, "3", 3))
    ]
    (whole,) = advance(plan, plan.begin, hits, END_MS).matches
    before = advance(plan, plan.begin, hits[:3], 8)
    assert advance(plan, before.progress, hits[3:], END_MS).matches == (whole,)
    assert [found.step for found in whole.match.fulfilled] == [0, 1, 2, 3]
