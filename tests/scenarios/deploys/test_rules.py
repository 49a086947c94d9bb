"""Deploys as a step of a sequence rule."""

from tests.support.deploys import Service, resource
from tests.support.sequences import Rules
from udfs.rules.compiled import compile_rules
from udfs.rules.document import read_rules

DEPLOY_THEN_ERROR = """
id: deploy-then-new-error
version: 1
title: a new error after a deploy
by: service
within: 15m
steps:
  - {name: deployed, insight: {kind: deploy, version|startswith: "2."}}
  - {name: error, insight: {kind: error_pattern_new}}
"""
HOUR_S = 3600


def test_a_new_error_in_the_logs_of_a_new_version_is_a_match() -> None:
    index, _ = compile_rules(read_rules("rules", DEPLOY_THEN_ERROR.encode()).rules)
    cart = Service(index)
    for at_s in range(0, HOUR_S + 1200, 30):
        at = resource("web-0", version="2.0.0" if at_s >= HOUR_S else "1.9.3")
        cart.logs(at_s, [at])
        if HOUR_S + 60 <= at_s < HOUR_S + 150:
            cart.logs(at_s, [at], "cannot read the price list", severity=17)
        cart.until(at_s + 10)
    found = cart.finish()
    assert {insight.kind for insight in found} == {"deploy", "error_pattern_new", "sequence_match"}
    (match,) = [insight for insight in found if insight.kind == "sequence_match"]
    deployed, error = match.evidence.timeline
    assert deployed.title == "cart: deployed version 2.0.0 at 23:20:00, after 1.9.3, on 1 of 1 hosts"
    assert (error.step, error.delay_ms) == ("error", 60_000)
    assert ", new since version 2.0.0: cannot read the price list" in error.title


def test_an_error_before_the_deploy_or_after_another_version_is_no_match() -> None:
    rules = Rules(DEPLOY_THEN_ERROR)
    rules.signal(10, "error_pattern_new")
    rules.signal(70, "deploy", version="2.0.0")
    rules.signal(20, "deploy", "mail", version="1.9.0")
    rules.signal(30, "error_pattern_new", "mail")
    assert rules.until(900) == []
