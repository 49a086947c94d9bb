"""The benchmark of rules: what its rules match is what it says, so that its figures are those of that share."""

from reasoner.bench.rules import CASES, RULES, bench_rules, rules


def test_one_span_in_a_hundred_fulfils_the_rules_and_none_those_out_of_reach() -> None:
    said: list[str] = []
    result = bench_rules(3, said.append)
    assert [row["rules"] for row in result.detail] == [case.name for case in CASES]
    none, quiet, hits = result.detail
    assert none["signals_share"] == quiet["signals_share"] == 0
    assert 0.008 <= hits["signals_share"] <= 0.012
    assert none["more"] == 0
    for row in result.detail:
        assert 0 < row["us_a_span_min"] <= row["us_a_span"] <= row["us_a_span_max"]
    assert said == [f"64000 spans, {RULES} rules: {round(hits['signals_share'] * 64_000)} signals"]


def test_the_rules_of_the_benchmark_are_of_the_kinds_that_it_names() -> None:
    fields = [set(rule.steps[0].parts[0].conditions[0]) for rule in (one.rule for one in rules(1.0).rules.values())]
    assert sum("name" in of and len(of) == 3 for of in fields) == 25
    assert sum(of == {"service", "duration_ms|gte"} or "status" in of for of in fields) == 15
    assert sum(any(name.startswith("attributes.") for name in of) for of in fields) == 10
    assert len(fields) == RULES
