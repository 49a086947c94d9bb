"""Hostile and wrong rule files: each with the line of its fault, and what the message says to write instead."""

from typing import NamedTuple

GOOD = """id: a-rule
version: 1
title: t
by: service
within: 10m
steps:
  - name: a
    insight: {kind: latency_spike}
  - name: b
    log: {body|contains: x}
"""


class Hostile(NamedTuple):
    """A file, the line of its first fault (0: the whole file), and a part of the message."""

    name: str
    data: bytes
    line: int
    says: str


def changed(name: str, old: str, new: str, line: int, says: str) -> Hostile:
    """Make a file that is good but for one change."""
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the good file"
    return Hostile(name, GOOD.replace(old, new).encode(), line, says)


def related(name: str, by: str, relation: str, line: int, says: str) -> Hostile:
    """Make a file whose second step has a relation."""
    return text(name, f"{GOOD.replace('by: service', by)}    {relation}\n", line, says)


def text(name: str, data: str, line: int, says: str) -> Hostile:
    return Hostile(name, data.encode(), line, says)


_BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
_MANY_STEPS = "steps:\n" + "".join(f"  - {{name: s{n}, insight: {{kind: incident}}}}\n" for n in range(11))
_OF_STEPS = GOOD[GOOD.index("steps:") :]
_LOG = "log: {body|contains: x}"

FILES = (
    # YAML itself
    text("empty", "", 0, "has no rule"),
    text("only a comment", "# nothing\n", 0, "has no rule"),
    text("only document marks", "---\n---\n", 0, "has no rule"),
    text("alias bomb", _BOMB, 1, "anchor or an alias"),
    text("an alias to itself", "a: &a [*a]\n", 1, "anchor or an alias"),
    text("an anchor alone", GOOD.replace("title: t", "title: &t t"), 3, "write it out"),
    text("a merge of maps", GOOD + "<<: {title: u}\n", 11, "<<: unknown name"),
    text("a tag of Python", "!!python/object/apply:os.system ['true']\n", 1, "found the tag"),
    text("a tag of a scalar", GOOD.replace("version: 1", "version: !!int '1'"), 2, "found the tag"),
    text("a tag of its own", GOOD.replace("title: t", "title: !env HOME"), 3, "found the tag"),
    text("deep lists", "a: " + "[" * 100 + "]" * 100, 1, "nests deeper than 12"),
    text("deep lists without an end", "[" * 5_000, 1, "nests deeper than 12"),
    text("deep maps", "a:\n" + "".join(f"{' ' * n}b:\n" for n in range(1, 60)), 13, "nests deeper than 12"),
    Hostile("10 MB", b"#" + b"x" * 10_000_000, 0, "more than 256 kB"),
    text("very many values", "a: [" + "1," * 60_000 + "1]", 1, "more than 50000 values"),
    text("201 rules", "---\n".join(GOOD.replace("a-rule", f"r{n}") for n in range(201)), 2201, "more than 200 rules"),
    Hostile("no UTF-8", GOOD.encode().replace(b"title: t", b"title: \xff"), 0, "found byte 0xff"),
    Hostile("UTF-16", GOOD.encode("utf-16"), 0, "is not UTF-8"),
    Hostile("NUL", b"id: \x00\n", 0, "is no YAML"),
    text("a tab as indent", "id: a\n\tversion: 1\n", 2, "is no YAML"),
    text("an open quote", 'id: "a\n', 2, "is no YAML"),
    text("an open list", "steps: [\n", 2, "is no YAML"),
    text("a list of rules", "- id: a\n", 1, "expected names with values"),
    text("text", "hello\n", 1, "expected names with values"),
    text("a number", "5\n", 1, "expected names with values"),
    text("JSON that is no rule", '{"a": {"b": 1}}', 1, "a: unknown name"),
    text("a name twice", GOOD.replace("version: 1", "version: 1\nversion: 2"), 3, "found version twice"),
    text("a name twice in a step", GOOD.replace("name: a", "name: a\n    name: c"), 8, "found name twice"),
    text("a list as a name", "? [a, b]\n: 1\n", 1, "found a list or map as a name"),
    text("one id twice", GOOD + "---\n" + GOOD, 12, "is in line 1 already"),
    # The rule
    changed("no id", "id: a-rule\n", "", 1, "id: found nothing"),
    changed("an id with blanks", "a-rule", "a rule", 1, "expected text that matches"),
    changed("an id with a path", "a-rule", "../../etc", 1, "expected text that matches"),
    changed("a long id", "a-rule", "a" * 81, 1, "expected text that matches"),
    changed("an id that is a number", "a-rule", "5", 1, "expected text"),
    changed("version 0", "version: 1", "version: 0", 2, "expected at least 1"),
    changed("a version as text", "version: 1", "version: one", 2, "expected a whole number"),
    changed("a version with a point", "version: 1", "version: 1.5", 2, "expected a whole number"),
    changed("a huge version", "version: 1", "version: 99999999999999999999", 2, "expected at most 99999999"),
    changed("no title", "title: t", "title: ''", 3, "expected text that is not empty"),
    changed("a long title", "title: t", f"title: {'t' * 401}", 3, "at most 400 characters"),
    changed("a misspelt name", "title: t", "titel: t", 3, "did you mean title?"),
    changed("an unknown by", "by: service", "by: pod", 4, "expected text that matches"),
    changed("an empty attribute", "by: service", "by: 'attribute:'", 4, "expected text that matches"),
    changed("by as a list", "by: service", "by: [service, host]", 4, "expected text"),
    changed("no within", "within: 10m\n", "", 1, "within: found nothing"),
    changed("within without a unit", "within: 10m", "within: 10", 5, "such as 5m"),
    changed("within 0", "within: 10m", "within: 0s", 5, "such as 5m"),
    changed("a negative within", "within: 10m", "within: -5m", 5, "such as 5m"),
    changed("a huge within", "within: 10m", "within: 99999999999999999999d", 5, "at most 24h"),
    changed("a within of days", "within: 10m", "within: 2d", 5, "at most 24h"),
    changed("digits of another script", "within: 10m", "within: ١٠m", 5, "such as 5m"),
    changed("an unknown severity", "by: service", "by: service\nseverity: high", 5, "'warning' or 'critical'"),
    changed("a negative suppress_ms", "by: service", "by: service\nsuppress_ms: -1", 5, "expected at least 0"),
    changed("a time without a zone", "by: service", "by: service\neffective_from: 2026-01-01", 5, "with its zone"),
    changed(
        "a time that is none", "by: service", "by: service\neffective_from: soon", 5, "effective_from: found 'soon'"
    ),
    changed("year 99999", "by: service", "by: service\neffective_from: 99999-01-01T00:00:00Z", 5, "effective_from"),
    changed("year 9999", "by: service", "by: service\neffective_from: 9999-12-31T23:59:59Z", 5, "from 1970 to 2261"),
    # Steps
    text("no step", GOOD.replace(_OF_STEPS, "steps: []\n"), 6, "expected at least 1"),
    text("steps as a map", GOOD.replace(_OF_STEPS, "steps: {name: a}\n"), 6, "expected a list"),
    text("11 steps", GOOD.replace(_OF_STEPS, _MANY_STEPS), 6, "expected at most 10"),
    changed("a step without a source", f"    {_LOG}\n", "", 9, "found no source"),
    changed("a step with two sources", _LOG, f"{_LOG}\n    span: {{name: x}}", 9, "found span and log"),
    changed("a source that is unknown", "log:", "lgo:", 10, "did you mean log?"),
    changed("a name of two steps", "name: b", "name: a", 1, "two steps are named a"),
    changed("an optional first step", "name: a", "name: a\n    optional: true", 1, "a first step that must come"),
    changed("an optional last step", "name: b", "name: b\n    optional: true", 1, "a last step that must come"),
    changed("an absent first step", "name: a", "name: a\n    not_within: 5m", 1, "a first step that must come"),
    changed("within and not_within", _LOG, f"{_LOG}\n    within: 1m\n    not_within: 1m", 9, "one of them"),
    changed("a step longer than the rule", _LOG, f"{_LOG}\n    within: 1h", 1, "at most that of the rule"),
    changed("a count of text", _LOG, f"{_LOG}\n    count: five", 11, "expected '>= N'"),
    changed("a count that is too large", _LOG, f"{_LOG}\n    count: '>= 5000'", 11, "from 2 to 1000"),
    changed("empty text", _LOG, _LOG.replace("body|contains: x", "body: ''"), 9, "write body|exists: false"),
    changed("distinct without a count", _LOG, f"{_LOG}\n    distinct: body", 9, "count: '>= N' beside it"),
    changed("one alternative", _LOG, "any_of: [{span: {name: x}}]", 10, "expected at least 2"),
    changed("any_of inside any_of", _LOG, "any_of: [{any_of: []}, {span: {name: x}}]", 10, "any_of: unknown name"),
    # Relations
    changed(
        "calls in a rule by service", _LOG, f"{_LOG}\n    calls: $a", 9, "calls: found a rule by service, expected"
    ),
    related("calls in a rule by trace", "by: trace", "called_by: $1", 9, "expected by: env"),
    related("one host in a rule by host", "by: host", "same_host: $1", 9, "have one host already: leave it out"),
    related("a relation to no step", "by: env", "calls: $c", 9, "$c is no earlier step, expected one of $a"),
    related("a relation to itself", "by: env", "calls: $b", 9, "$b is no earlier step, expected one of $a"),
    related("a relation to a number that is too large", "by: env", "calls: $3", 9, "$3 is no earlier step"),
    related("a relation to step 0", "by: env", "calls: $0", 11, "expected text that matches"),
    related("a relation to a name without a sign", "by: env", "calls: a", 11, "expected text that matches"),
    related("a relation to several", "by: env", "calls: [$a]", 11, "expected text"),
    changed(
        "a relation of the first step", "name: a", "name: a\n    same_host: $1", 7, "expected a step behind one that"
    ),
    # Conditions
    changed("no condition", _LOG, "log: {}", 10, "expected a map of 1 to 20 fields"),
    changed("a condition of text", _LOG, "log: error", 10, "expected a map of 1 to 20 fields"),
    changed("nested values", _LOG, "log: {body: {a: b}}", 10, "expected text of at most 2000 characters"),
    changed("21 values", _LOG, f"log: {{body: [{','.join('x' * 21)}]}}", 10, "expected 1 to 20"),
    changed("a long value", _LOG, f"log: {{body: {'x' * 2_001}}}", 10, "at most 2000 characters"),
    changed("a huge hexadecimal version", "version: 1", f"version: 0x{'f' * 6_000}", 2, "version: found a huge number"),
    changed("a huge hexadecimal value", _LOG, f"log: {{body: 0x{'f' * 5_000}}}", 10, "found a huge number"),
    changed("a huge number of digits", _LOG, f"log: {{severity_number: {'9' * 400}}}", 10, "found a huge number"),
    changed("infinity", _LOG, "log: {severity_number|lt: .inf}", 10, "found inf"),
    changed("no number", _LOG, "log: {severity_number|lt: .nan}", 10, "found nan"),
    changed("half a character", _LOG, 'log: {body: "\\uD800"}', 10, "half of a surrogate pair"),
    changed("no character", _LOG, 'log: {body: "\\U00110000"}', 0, "an escape that is no character"),
    changed("no character at all", _LOG, 'log: {body: "\\UFFFFFFFF"}', 0, "an escape that is no character"),
    changed("null", _LOG, "log: {body: null}", 10, "found None"),
    changed("an attribute without a name", _LOG, "span: {attributes.: x}", 9, "span has no field 'attributes.'"),
    changed("an attribute of an insight", _LOG, "insight: {attributes.a: x}", 9, "insight has no field"),
    changed(
        "distinct of no attribute", _LOG, f"{_LOG}\n    count: '>= 2'\n    distinct: resource.", 9, "distinct: log"
    ),
    changed("an unknown field", "body|contains", "bdoy|contains", 9, "did you mean body?"),
    changed("an unknown modifier", "body|contains", "body|contians", 9, "did you mean contains?"),
    changed("a broken expression", _LOG, "log: {body|re: '('}", 9, "regular expression of RE2"),
    changed("a look-ahead", _LOG, "log: {body|re: '(?=a)'}", 9, "regular expression of RE2"),
    changed("an expression bomb", _LOG, "log: {body|re: '((a{100}){100}){100}'}", 9, "regular expression of RE2"),
    changed("a kind that is none", "latency_spike", "latency_spikes", 7, "did you mean latency_spike?"),
    changed("a network that is none", _LOG, "log: {host|cidr: 10.0.0.1/8}", 9, "has host bits set"),
)
