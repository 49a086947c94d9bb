"""RuleBook: what it broadcasts, and the life of an insight about a rejected record."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from operators.correlate.rule_book import REJECTED_MAX, RuleBook
from operators.machine import BEGIN_OF_TIME
from state_schemas.aggregates.published_rules import PublishedRule, RuleRecord, TopicAtStart
from state_schemas.contracts.insight import Insight, fault_of
from state_schemas.contracts.rules import TIME_MS_END
from state_schemas.state.rule_book import RuleBookState
from tests.support.rule_records import NOW_MS, record, text
from udfs.rules.publishing import KEPT_MS, published_rules

BOOK = RuleBook()
Output = PublishedRule | Insight


def after(*records: RuleRecord) -> tuple[RuleBookState, list[list[Output]]]:
    """Return the state after the records, which goes through its bytes between them, and the outputs of each."""
    state, outputs = BOOK.initial("rules"), []
    for one in records:
        step = BOOK.on_event(state, one, BEGIN_OF_TIME)
        assert step.state is not None
        assert step.timer_at_ms is None
        state = BOOK.codec.decode(BOOK.codec.encode(step.state))
        outputs.append(list(step.outputs))
    return state, outputs


def test_each_change_is_put_out_with_all_versions_and_no_change_puts_out_nothing() -> None:
    _, ((first,), (second,), nothing) = after(
        record(0, text()), record(1, text(version=2), NOW_MS + 1), record(2, text(version=2))
    )
    assert isinstance(first, PublishedRule)
    assert isinstance(second, PublishedRule)
    assert ([version.version for version in second.versions], second.offset) == ([1, 2], 1)
    assert nothing == []


def test_a_rejected_record_is_an_insight_until_the_rule_is_published() -> None:
    bad, worse, good = record(0, b"id: a\nx: 1"), record(1, b"\xff"), record(2, text())
    _, ((opened,), (replaced, again), (change, closed)) = after(bad, worse, good)
    assert isinstance(opened, Insight)
    assert (opened.kind, opened.status, opened.subject, opened.env) == ("rule_rejected", "open", "a", "")
    assert opened.title.startswith("rule a is rejected: version: found nothing")
    assert [(kafka.topic, kafka.first_offset) for kafka in opened.evidence.kafka] == [("insight_rules", 0)]
    assert fault_of(opened) == ""
    assert isinstance(replaced, Insight)
    assert (replaced.insight_id, replaced.revision, replaced.status) == (opened.insight_id, 1, "closed")
    assert isinstance(again, Insight)
    assert again.insight_id != opened.insight_id
    assert isinstance(change, PublishedRule)
    assert isinstance(closed, Insight)
    assert (closed.insight_id, closed.status) == (again.insight_id, "closed")


def test_a_rejected_record_changes_no_rule_and_is_counted() -> None:
    state, _ = after(record(0, text()))
    before = dict(state.published)
    step = BOOK.on_event(state, record(1, b"id: ["), BEGIN_OF_TIME)
    assert state.published == before
    assert dict(step.counts) == {"rule_records_rejected_total": 1}


def test_the_insight_about_a_record_of_a_far_time_has_a_time_that_tables_have() -> None:
    _, ((rejected,),) = after(record(0, text(), 2**62))
    assert isinstance(rejected, Insight)
    assert rejected.window.end_ms == TIME_MS_END + 1


def test_what_is_over_is_put_out_without_versions() -> None:
    state, outputs = after(record(0, text()), record(1, None), record(2, text("b"), NOW_MS + 2 * KEPT_MS, "b"))
    assert list(state.published) == ["b"]
    new, over = outputs[-1]
    assert isinstance(new, PublishedRule)
    assert over == PublishedRule("a", (), 2)


def test_the_oldest_of_too_many_rejected_rules_is_closed() -> None:
    state, outputs = after(*(record(n, b"x", key=f"k{n}") for n in range(REJECTED_MAX + 1)))
    assert len(state.rejected) == REJECTED_MAX
    _, closed = outputs[-1]
    assert isinstance(closed, Insight)
    assert (closed.subject, closed.status, closed.reason) == ("k0", "closed", "too many rules are rejected")


def of(topic_id: str, *records: RuleRecord) -> list[RuleRecord]:
    return [replace(one, topic_id=topic_id) for one in records]


def begun(end_offset: int, *records: RuleRecord) -> RuleBook:
    """Return the book of a submission that has read these records."""
    return RuleBook(TopicAtStart(tuple(published_rules(records).values()), end_offset, records[0].topic_id))


def carried(book: RuleBook, state: RuleBookState, *records: RuleRecord) -> tuple[RuleBookState, list[Output], int]:
    """Return what a book makes of the records from a state on: the state, all outputs, and how many it counts."""
    outputs: list[Output] = []
    rejected = 0
    for one in records:
        step = book.on_event(state, one, BEGIN_OF_TIME)
        assert step.state is not None
        state = book.codec.decode(book.codec.encode(step.state))
        outputs += step.outputs
        rejected += dict(step.counts).get("rule_records_rejected_total", 0)
    return state, outputs, rejected


def test_a_topic_that_was_created_anew_has_its_own_rules_whatever_the_state_has() -> None:
    """The state is of offsets up to 401; the submission has read the first two records of the new topic."""
    old = of("old", record(399, text("gone", version=9), key="gone"), record(400, text(version=5)), record(401, b"x"))
    state, _, _ = carried(begun(399, *of("old", record(0, None))), BOOK.initial("rules"), *old)
    new = of("new", record(0, text(version=2)), record(1, text(version=3), NOW_MS + 1), record(2, text("b"), key="b"))
    # The source finds that its offset is not there, and begins anew.
    state, outputs, _ = carried(begun(2, *new[:2]), state, *new)
    assert state.published == published_rules(new)
    closed, change = outputs
    assert isinstance(closed, Insight)
    assert (closed.subject, closed.status, closed.reason) == ("a", "closed", "the job has another topic of rules")
    assert isinstance(change, PublishedRule)
    assert (change.rule_id, change.offset, change.topic_id) == ("b", 2, "new")
    assert state.rejected == {}


def test_a_rejected_record_of_a_topic_that_had_no_rule_ends_with_the_topic() -> None:
    (bad,), (good,) = of("old", record(4, b"x")), of("new", record(0, text("b"), key="b"))
    state, _, _ = carried(begun(4, *of("old", record(0, None))), BOOK.initial("rules"), bad)
    state, (closed, _), _ = carried(begun(0, *of("new", record(0, None))), state, good)
    assert isinstance(closed, Insight)
    assert (closed.subject, closed.status, state.rejected) == ("a", "closed", {})


def test_a_rule_that_went_out_of_the_topic_is_none_of_the_next_submission_and_what_is_rejected_stays() -> None:
    """Its mark of removal was compacted away: with the rule of the state its id could not be used again."""
    kept, gone, bad = of("T", record(0, text("b"), key="b"), record(1, text(version=5)), record(2, b"x", key="c"))
    state, _, _ = carried(begun(0, kept), BOOK.initial("rules"), kept, gone, bad)
    anew = of("T", record(7, text(version=1)))
    state, outputs, rejected = carried(begun(7, kept), state, *anew)
    assert (list(state.published), list(state.rejected), rejected) == (["b", "a"], ["c"], 0)
    (change,) = outputs
    assert isinstance(change, PublishedRule)
    assert [version.version for version in change.versions] == [1]


def test_records_that_a_submission_has_read_change_nothing_when_the_source_reads_them_again() -> None:
    records = of("T", record(0, text()), record(1, text(version=2), NOW_MS + 1), record(2, b"x", key="c"))
    state, _, _ = carried(begun(0, *of("T", record(0, None))), BOOK.initial("rules"), records[0])
    state, outputs, rejected = carried(begun(3, *records), state, *records[1:])
    assert state.published == published_rules(records)
    assert ([one.subject for one in outputs if isinstance(one, Insight)], len(outputs), rejected) == (["c"], 1, 1)


def test_the_records_of_a_topic_that_is_created_anew_under_a_running_job_are_rejected() -> None:
    """Of an id that is known as of one that is new: a half of the new rules would be worse than none."""
    state, _ = after(record(400, text(version=5)))
    before = dict(state.published)
    state, outputs, rejected = carried(BOOK, state, record(0, text(version=6)), record(1, text("b"), key="b"))
    assert (state.published, rejected) == (before, 2)
    assert [one.title for one in outputs if isinstance(one, Insight)] == [
        f"rule {key} is rejected: found offset {offset} after offset 400, expected a later one: the topic was created "
        "anew, submit the job again"
        for key, offset in (("a", 0), ("b", 1))
    ]


def test_a_topic_that_is_created_anew_before_any_record_was_read_is_not_passed_over() -> None:
    """The submission has read version 5 at offset 400: a newer one cannot have been before it."""
    book = begun(401, *of("T", record(400, text(version=5))))
    state, outputs, rejected = carried(book, book.initial("rules"), *of("T", record(0, text(version=6))))
    assert [one.kind for one in outputs if isinstance(one, Insight)] == ["rule_rejected"]
    assert ([version.version for version in state.published["a"].versions], rejected) == ([5], 1)


def test_a_rejected_record_ends_with_a_good_one_that_the_submission_has_read() -> None:
    bad, good, removed, again = of("T", record(3, b"x"), record(4, text()), record(5, None), record(6, text(version=2)))
    state, _, _ = carried(begun(3, *of("T", record(0, None))), BOOK.initial("rules"), bad)
    state, (closed,), rejected = carried(begun(7, good, removed, again), state, good, removed, again)
    assert isinstance(closed, Insight)
    assert (closed.subject, closed.status, state.rejected, rejected) == ("a", "closed", {}, 0)
    assert state.published == published_rules([good, removed, again])


VALUES = st.one_of(st.none(), st.just(b"x"), st.builds(text, st.sampled_from("ab"), st.integers(1, 4)))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), VALUES), max_size=8),
    st.integers(0, 8),
    st.integers(0, 8),
    st.sampled_from(["", "T"]),
)
def test_a_job_that_goes_on_from_a_savepoint_has_the_rules_of_one_that_read_all(
    drawn: list[tuple[str, bytes | None]], stopped: int, waited: int, topic_id: str
) -> None:
    """It is stopped behind some records, and submitted again behind some more, which the source reads again."""
    records = of(topic_id, *(record(n, value, key=key) for n, (key, value) in enumerate(drawn)))
    first, every = RuleBook(TopicAtStart(topic_id=topic_id)), published_rules(records)
    known = tuple(published_rules(records[: stopped + waited]).values())
    again = RuleBook(TopicAtStart(known, min(stopped + waited, len(records)), topic_id))
    state, _, _ = carried(first, first.initial("rules"), *records[:stopped])
    state, outputs, _ = carried(again, state, *records[stopped:])
    assert not [one.title for one in outputs if isinstance(one, Insight) and "created anew" in one.title]
    if records[stopped:]:
        assert state.published == every
