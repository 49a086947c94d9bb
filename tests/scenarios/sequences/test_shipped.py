"""Each shipped rule on a recording that it must match, and on one that it must not."""

from collections.abc import Iterable
from functools import cache
from heapq import merge

import pytest

from jobs.shipped import SHIPPED, shipped_rules
from reasoner.recordings.message import Message
from reasoner.recordings.reshape import placed
from reasoner.runs.local_run import LocalRun
from reasoner.runs.replay import ReplayOptions, settings
from state_schemas.contracts.insight import Insight
from state_schemas.contracts.rules import Rule
from tests.support.recordings import Recording
from tests.support.shipped_recordings import PAIRS, restarts
from udfs.rules.compiled import rule_name


@cache
def matches() -> list[Insight]:
    """Return the matches in two environments: one has all recordings that a rule matches, one the near misses.

    All of them are read at once because a run takes seconds, and so no rule may match the recording of another one.
    """
    matching, near_miss = Recording("matching"), Recording("near-miss")
    for pair in PAIRS.values():
        pair.matching(matching)
        pair.near_miss(near_miss)
    messages = merge(matching.messages(), near_miss.messages(), key=lambda message: message.timestamp_ms)
    last = {insight.insight_id: insight for insight in revisions_of(messages)}
    return [insight for insight in last.values() if insight.status != "retracted"]


def revisions_of(messages: Iterable[Message]) -> list[Insight]:
    run = LocalRun(settings(ReplayOptions(rules=SHIPPED).detection).graph())
    found = (out for out in run.run(placed(messages, 1)) if isinstance(out, Insight))
    return [insight for insight in found if insight.kind.startswith("sequence_")]


RULES = [one.rule for one in shipped_rules()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_shipped_rule_matches_its_recording_once_and_no_near_miss(rule: Rule) -> None:
    pair = PAIRS[rule.id]
    (match,) = (insight for insight in matches() if insight.subject == rule_name(rule))
    assert (match.env, match.service, match.measures["matches"]) == ("matching", pair.service, 1)
    assert tuple(step.step for step in match.evidence.timeline) == pair.steps
    assert match.evidence.kafka, "the offsets of its records, or of those of its insights"


def test_a_pod_in_crash_loop_back_off_for_a_day_is_three_insights() -> None:
    recording = Recording("day")
    restarts(recording, "x" * 288, every_s=300)
    found = revisions_of(recording.messages())
    assert len({insight.insight_id for insight in found}) == 3
    assert len(found) <= 24, "an insight is updated at its 2nd, 4th, 8th ... match"


def test_no_shipped_rule_matches_anything_else() -> None:
    assert len(matches()) == len(RULES)
