"""Records of the rules topic: which versions hold when, what is removed, what is rejected, in any order of arrival."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from state_schemas.aggregates.published_rules import FOREVER_MS, PublishedRule, RuleRecord, RuleVersion
from state_schemas.contracts.rules import TIME_MS_END, Rule
from tests.support.rule_records import NOW_MS, record, text
from udfs.rules import publishing
from udfs.rules.compiled import RuleIndex
from udfs.rules.publishing import BEGIN_MS, KEPT_MS, READ_MS, RULES_MAX, VERSIONS_MAX, publish, published_rules, put

HOUR_MS = 3_600_000


def only(records: list[RuleRecord]) -> PublishedRule:
    (rule,) = published_rules(records).values()
    return rule


def test_a_version_holds_once_each_subtask_has_read_it_however_early_it_wants_to() -> None:
    (version,) = only([record(0, text())]).versions
    assert version.from_ms == NOW_MS + READ_MS
    (early,) = only([record(0, text(effective="effective_from: 2020-01-01T00:00:00Z\n"))]).versions
    assert early.from_ms == NOW_MS + READ_MS
    (later,) = only([record(0, text(effective="effective_from: 2033-05-18T03:33:20Z\n"))]).versions
    assert later.from_ms == 2_000_000_000_000


def test_the_next_version_takes_over_and_nothing_is_removed() -> None:
    rule = only([record(0, text()), record(1, text(version=2), NOW_MS + HOUR_MS)])
    first, second = rule.versions
    assert (first.until_ms, second.until_ms) == (second.from_ms, FOREVER_MS)
    assert second.from_ms == NOW_MS + HOUR_MS + READ_MS
    assert {version.removed_ms for version in rule.versions} == {FOREVER_MS}
    assert rule.offset == 1


def test_a_removed_rule_has_an_end_and_comes_back_with_a_new_version_only() -> None:
    records = [record(0, text()), record(1, None, NOW_MS + HOUR_MS)]
    gone_ms = NOW_MS + HOUR_MS + READ_MS
    removed = only(records)
    assert [(version.until_ms, version.removed_ms) for version in removed.versions] == [(gone_ms, gone_ms)]
    assert removed.is_removed
    again = publish({"a": removed}, record(2, text(), NOW_MS + 2 * HOUR_MS))
    assert again.change is None
    assert again.fault == "found version 1: version 1 of a was published, expected version 2 or later"
    back = only([*records, record(2, text(version=2), NOW_MS + 2 * HOUR_MS)])
    assert [(version.version, version.removed_ms) for version in back.versions] == [(1, gone_ms), (2, FOREVER_MS)]
    assert not back.is_removed


def test_the_same_record_twice_changes_nothing_and_another_text_under_its_version_is_rejected() -> None:
    before = published_rules([record(0, text())])
    assert publish(before, record(1, text())) == (None, "")
    assert "expected version 2 or later" in publish(before, record(1, text(kind="telemetry_gap"))).fault
    assert publish(before, record(1, None, key="other")) == (None, ""), "what is not there is removed already"


@pytest.mark.parametrize(
    ("value", "key", "fault"),
    [
        (b"id: [", "a", "is no YAML"),
        (b"\xff", "a", "is not UTF-8"),
        (b"", "a", "has no rule"),
        (text() + b"---\n" + text("b"), "a", "has 2 rules, expected one: a record for each"),
        (text("b"), "a", "the key of the record is 'a', expected the id of its rule, b"),
        (text(kind="latency_spyke"), "a", "step a: kind: insight has no kind 'latency_spyke'"),
        (b"&a [" * 100, "a", "anchor"),
    ],
)
def test_a_record_that_is_no_rule_is_rejected_with_its_reason(value: bytes, key: str, fault: str) -> None:
    found = publish({}, record(0, value, key=key))
    assert found.change is None
    assert fault in found.fault


def test_versions_of_which_nothing_counts_are_forgotten() -> None:
    hours = [record(n, text(version=n + 1), NOW_MS + n * HOUR_MS) for n in range(3 * VERSIONS_MAX)]
    assert len(only(hours).versions) == VERSIONS_MAX
    late = record(9, text(version=100), NOW_MS + 2 * KEPT_MS)
    assert [version.version for version in only([*hours[:2], late]).versions] == [2, 100], "version 2 held until now"
    gone = [*hours[:1], record(1, None), record(2, text("b"), NOW_MS + 2 * KEPT_MS, "b")]
    assert list(published_rules(gone)) == ["b"]


def fulfils(index: RuleIndex, kind: str, at_ms: int) -> list[tuple[str, int]]:
    return sorted((hit.rule.partition("#")[0], hit.step) for _, hit in index.hits("insight", {"kind": kind}, at_ms))


def test_no_step_of_a_removed_rule_is_fulfilled_and_later_steps_of_an_older_version_are() -> None:
    records = [record(0, text()), record(1, text(version=2, kind="telemetry_gap"), NOW_MS + HOUR_MS)]
    index = RuleIndex.of([only(records)])
    changed_ms = NOW_MS + HOUR_MS + READ_MS
    assert fulfils(index, "latency_spike", changed_ms - 1) == [("a@1", 0)]
    assert fulfils(index, "latency_spike", changed_ms) == []
    assert fulfils(index, "error_ratio", changed_ms) == [("a@1", 1), ("a@2", 1)]
    removed = RuleIndex.of([only([*records, record(2, None, NOW_MS + HOUR_MS + 60_000)])])
    assert fulfils(removed, "error_ratio", changed_ms + 59_999) == [("a@1", 1), ("a@2", 1)]
    assert fulfils(removed, "error_ratio", changed_ms + 60_000) == []


VALUES = st.one_of(
    st.none(),
    st.builds(
        text,
        st.sampled_from("ab"),
        st.integers(1, 4),
        st.sampled_from(["latency_spike", "telemetry_gap", "no_kind"]),
    ),
)
RECORDS = st.lists(st.tuples(st.sampled_from("ab"), VALUES, st.integers(0, 4 * KEPT_MS)), max_size=12)


@given(RECORDS)
def test_an_index_that_takes_the_changes_as_they_come_is_that_of_all_records(
    drawn: list[tuple[str, bytes | None, int]],
) -> None:
    """A submission reads the records so far; subtasks take each change; a restore takes the newest of each rule."""
    times = sorted(at_ms for _, _, at_ms in drawn)
    records = [record(n, value, NOW_MS + times[n], key) for n, (key, value, _) in enumerate(drawn)]
    half = published_rules(records[: len(records) // 2])
    live, published = RuleIndex.of(half.values()), dict(half)
    changes: list[PublishedRule] = []
    for one in records[len(records) // 2 :]:
        change = publish(published, one).change
        changes += () if change is None else (change, *put(published, change, one.timestamp_ms))
        live = live.updated(changes[-2:])
    assert live.published == published_rules(records), "none is kept of which nothing counts"
    last = {change.rule_id: change for change in changes}
    # Broadcast state forgets what is over, but for rules that the submission knows.
    newest = {rule_id: change for rule_id, change in last.items() if change.versions or rule_id in half}
    assert RuleIndex.of(half.values()).updated(list(newest.values())).published == live.published
    submitted = RuleIndex.of(published_rules(records).values())
    assert submitted.updated(list(newest.values())).rules == submitted.rules, "a submission knows all of it"
    for rule in live.published.values():
        assert all(a.version < b.version and a.until_ms <= b.from_ms for a, b in pairwise(rule.versions))


def test_a_rule_of_a_file_stays_whatever_the_topic_says() -> None:
    (rule,) = published_rules([record(5, text(version=7))]).values()
    of_file = replace(rule, offset=-1)
    assert RuleIndex.of([of_file]).updated([only([record(9, text(version=8))])]).published == {"a": of_file}


def test_a_version_with_a_wrong_time_far_ahead_is_replaced() -> None:
    far = record(1, text(version=2, effective="effective_from: 2033-05-18T03:33:20Z\n"))
    rule = only([record(0, text()), far, record(2, text(version=3), NOW_MS + HOUR_MS)])
    assert [version.version for version in rule.versions] == [1, 3]
    assert rule.versions[0].until_ms == rule.versions[1].from_ms == NOW_MS + HOUR_MS + READ_MS


def test_a_year_of_rules_that_come_and_go_never_fills_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 rules of different ids, 14 a day, each removed at once. Their texts are not read, which takes 10 s."""
    rule = publishing._rule("a", text())
    assert isinstance(rule, Rule)
    monkeypatch.setattr(publishing, "_rule", lambda key, value: rule.model_copy(update={"id": key}))
    published: dict[str, PublishedRule] = {}
    sizes = []
    for number in range(5_000):
        at_ms = NOW_MS + number * 365 * 24 * HOUR_MS // 5_000
        for offset, value in enumerate((b"", None)):
            change, fault = publish(published, record(2 * number + offset, value, at_ms, f"r{number}"))
            assert change is not None, fault
            put(published, change, at_ms)
        sizes.append(len(published))
    assert max(sizes) == 69, "those of five days, at 105 min each"


def test_a_topic_that_is_full_of_removed_rules_has_place_again_five_days_after_their_removal() -> None:
    version = RuleVersion(1, "{}", NOW_MS, NOW_MS, NOW_MS)
    full = {f"r{number}": PublishedRule(f"r{number}", (version,), number) for number in range(RULES_MAX)}
    found = publish(full, record(RULES_MAX, text(), NOW_MS + KEPT_MS))
    assert found.fault == (
        "found 1000 rules in the topic, 1000 of them removed, expected fewer than 1000: remove some; each counts for "
        "five days after its removal"
    )
    later = record(RULES_MAX, text(), NOW_MS + KEPT_MS + 1)
    change = publish(full, later).change
    assert change is not None, "no other change comes that would make place"
    assert len(put(full, change, later.timestamp_ms)) == RULES_MAX
    assert list(full) == ["a"]


@pytest.mark.parametrize("at_ms", [-1, 1_769_860_800, BEGIN_MS - 1, TIME_MS_END, 2**62])
def test_a_record_at_a_time_that_no_telemetry_has_is_rejected(at_ms: int) -> None:
    before = published_rules([record(0, text())])
    for value in (text(version=2), None):
        found = publish(before, record(1, value, at_ms))
        assert found.change is None
        assert f"found the Kafka timestamp {at_ms}, expected epoch ms from 2000 to 2261" in found.fault


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "2262-01-01T00:00:00Z", "1969-12-31T23:59:59Z"])
def test_a_forced_record_with_a_far_year_is_rejected(time: str) -> None:
    found = publish({}, record(0, text(effective=f"effective_from: {time}\n")))
    assert found.change is None
    assert "effective_from: found" in found.fault
    assert "expected a time from 1970 to 2261" in found.fault
