"""Laws of patterns: ids, merging of masked lines of one pattern, joining of registered variants."""

from functools import reduce
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from state_schemas.state.log_patterns import Registered
from udfs.detect.log_patterns.registry import VARIANTS_MIN, canonical, register
from udfs.logs.masking.masker import Masker
from udfs.logs.template import HOLE, Pattern, merge_texts, named_pattern, pattern_of, template_of

MASKER = Masker()


def pattern(line: str) -> Pattern:
    return pattern_of(MASKER.masked_lines([line])[0])


def registered(lines: list[str]) -> dict[str, Registered]:
    return {p.pattern_id: Registered(p.texts, 0, 0, 1) for p in map(pattern, lines)}


def test_names_are_holes_and_words_are_not() -> None:
    """In a line of enough words, names of files and hosts do not identify the event."""
    node = pattern("Deletion of /var/lib/a complete, tag=web, by com.shop.Cleaner at node-7")
    other = pattern("Deletion of /srv/b/c complete, tag=db, by org.other.Job at host-12")
    assert node.pattern_id == other.pattern_id
    assert (
        pattern("Creation of /var/lib/a complete, tag=web, by com.shop.Cleaner at node-7").pattern_id != node.pattern_id
    )


def test_names_count_in_lines_of_few_words() -> None:
    assert pattern("start com.shop.Cart").pattern_id != pattern("start com.shop.Mail").pattern_id
    assert pattern("generating core.6161").pattern_id == pattern("generating core.77").pattern_id


def test_lists_of_any_length_are_one_hole() -> None:
    lines = [f"lost contact with nodes {' '.join(f'n{i}' for i in range(size))} for good" for size in (1, 2, 9)]
    assert len({pattern(line).pattern_id for line in lines}) == 1


def test_a_list_of_records_counts_as_one_record_whatever_its_length() -> None:
    def assigned(parts: int) -> str:
        return f"added {', '.join(f'[partition: t-{n} offset: {n} of host: h{n}]' for n in range(parts))}"

    assert len({pattern(assigned(parts)).pattern_id for parts in range(1, 5)}) == 1
    assert (
        template_of(pattern(assigned(1)).texts) == "added [partition: t-<number> offset: <number> of host: h<number>]"
    )


def test_everything_behind_the_last_token_is_one_hole() -> None:
    assert pattern("word " * 64 + "a b c").pattern_id == pattern("word " * 64 + "d " * 500).pattern_id


lines = st.lists(
    st.sampled_from(
        ("deletion", "of", "5", "0x1f", "/var/a", "/srv/7/b", "tag=web", "tag=7", "(done)", "'x'", "-", "a.b")
    ),
    max_size=9,
).map(" ".join)


@given(st.lists(lines, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_texts_of_one_pattern_merge_in_any_order_and_keep_its_id(drawn: list[str], random: Random) -> None:
    by_id: dict[str, list[Pattern]] = {}
    for line in drawn:
        by_id.setdefault(pattern(line).pattern_id, []).append(pattern(line))
    for pattern_id, parts in by_id.items():
        joined = reduce(merge_texts, [p.texts for p in parts])
        shuffled = random.sample(parts, len(parts))
        assert reduce(merge_texts, [p.texts for p in shuffled]) == joined
        assert merge_texts(joined, parts[0].texts) == joined
        assert pattern_of("".join(joined)[1:].encode()).pattern_id == pattern_id


@given(lines)
def test_a_masked_line_is_the_concatenation_of_its_texts(line: str) -> None:
    masked_line = MASKER.masked_lines([line])[0].decode()
    assert "".join(pattern(line).texts) == " " + masked_line


def test_a_template_reads_like_the_line() -> None:
    texts = merge_texts(
        pattern("user bob lost 5 of ten items in a/b").texts, pattern("user bob lost 7 of ten items in c/d").texts
    )
    assert template_of(texts) == "user bob lost <number> of ten items in <*>"


USERS = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")


@given(st.permutations(USERS), st.integers(1, 7))
def test_a_word_with_five_variants_becomes_a_hole_in_any_order_of_lines(users: list[str], at_once: int) -> None:
    entries: dict[str, Registered] = {}
    variants = [f"login failed for user {user} from console" for user in users]
    for first in range(0, len(variants), at_once):
        new = {
            pattern_id: entry
            for pattern_id, entry in registered(variants[first : first + at_once]).items()
            if canonical(entries, pattern_id, entry.texts) not in entries
        }
        entries = register(entries, new, 100).entries
    ids = {canonical(entries, pattern(line).pattern_id, pattern(line).texts) for line in variants}
    wide = named_pattern(*2 * (("login", "failed", "for", "user", HOLE, "from", "console"),))
    assert ids == {wide.pattern_id}
    assert template_of(entries[wide.pattern_id].texts) == "login failed for user <*> from console"


def test_fewer_variants_stay_separate_patterns() -> None:
    methods = [f"{method} request was refused by the gateway" for method in ("GET", "POST", "PUT", "DELETE")]
    assert len(methods) < VARIANTS_MIN
    found = register({}, registered(methods), 100)
    assert len(found.added) == len(methods)
    assert not any(entry.alias_of for entry in found.entries.values())


def test_a_variant_of_a_known_pattern_is_not_new() -> None:
    variants = [f"login failed for user {user} from console" for user in USERS]
    first = register({}, registered(variants[:6]), 100)
    assert len(first.added) == 1, "the joined pattern alone is new"
    assert canonical(first.entries, pattern(variants[6]).pattern_id, pattern(variants[6]).texts) == first.added[0]


def test_patterns_beyond_the_limit_are_refused_and_returned() -> None:
    different = [f"{'abcdefghij'[n]}x happened here today" for n in range(3)]
    found = register({}, registered(different), 2)
    assert len(found.entries) == 2
    assert len(found.refused) == 1
    assert found.refused == {max(registered(different))}, "patterns with the lowest ids are registered first"
