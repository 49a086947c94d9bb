"""Deploys of a service under the shipped settings: what is one, what is none, and when it ends."""

from collections.abc import Callable
from functools import cache

import pytest

from state_schemas.contracts.insight import Insight
from tests.support.deploys import BEGIN_MS, Service, resource

MINUTE_S = 60
HOUR_S = 3600
ROLL_OUT_S = 1800  # from here on the versions of a scenario change


def rolling(host: str, at_s: int) -> str:
    """Return the version in a roll-out over six hosts, one every 30 s."""
    return "2.0.0" if at_s >= ROLL_OUT_S + 30 * int(host[-1]) else "1.9.3"


def test_a_roll_out_over_six_hosts_is_one_insight() -> None:
    cart = Service()
    cart.run(6, rolling, until_s=HOUR_S, every_s=30)
    assert cart.statuses() == ["open", "updated", "updated", "updated", "closed"]
    first, second, fourth, sixth, last = cart.emitted
    assert (first.kind, first.severity, first.service, first.subject) == ("deploy", "info", "cart", "2.0.0")
    assert (first.version, first.evidence.version_before) == ("2.0.0", "1.9.3")
    assert first.title == "cart: deployed version 2.0.0 at 22:50:00, after 1.9.3, on 1 of 6 hosts"
    assert [i.measures["hosts"] for i in cart.emitted] == [1, 2, 4, 6, 6]
    assert [i.measures["hosts_before"] for i in cart.emitted] == [5, 4, 2, 0, 0]
    assert [host.name for host in sixth.evidence.hosts] == [f"web-{number}" for number in range(6)]
    assert last.reason == "complete: version 1.9.3 is not seen any more"
    assert last.window.start_ms == BEGIN_MS + ROLL_OUT_S * 1000
    assert last.measures["roll_out_s"] == 160, "from the window of the first host to that of the last"
    assert (second.evidence.kafka[0].first_offset, fourth.evidence.kafka[0].topic) == (61, "trace_events")


@pytest.mark.parametrize(
    "runs",
    [
        lambda host, at_s: "1.9.3",
        lambda host, at_s: "1.9.3" if at_s < 9 * MINUTE_S else "2.0.0",
        lambda host, at_s: "-" if host == "web-1" and at_s < ROLL_OUT_S else "1.9.3",
        lambda host, at_s: "" if host == "web-1" or at_s < ROLL_OUT_S else "1.9.3",
        lambda host, at_s: "unknown" if host == "web-1" and at_s >= ROLL_OUT_S else "1.9.3",
        lambda host, at_s: "-" if ROLL_OUT_S <= at_s < 3 * HOUR_S else "1.9.3",
    ],
    ids=["one version", "in the warm-up", "a host more", "the first version", "no version", "silence"],
)
def test_what_is_no_deploy(runs: Callable[[str, int], str]) -> None:
    cart = Service()
    cart.run(2, runs, until_s=4 * HOUR_S, every_s=60)
    assert cart.finish() == []


def test_a_rollback_is_a_deploy_of_the_version_before() -> None:
    cart = Service()
    cart.run(3, lambda host, at_s: "2.0" if HOUR_S <= at_s < 2 * HOUR_S else "1.9", until_s=3 * HOUR_S, every_s=30)
    first, second = cart.finish()
    assert [first.status, second.status] == ["closed", "closed"]
    assert second.title == "cart: back to version 1.9 at 00:20:00, after 2.0, on 3 of 3 hosts"
    assert (second.version, second.evidence.version_before) == ("1.9", "2.0")


def test_each_change_between_two_versions_is_a_deploy_however_long_one_was_away() -> None:
    changes = {HOUR_S: "2.0", 8 * HOUR_S: "1.9", 9 * HOUR_S: "2.0", 10 * HOUR_S: "1.9"}
    cart = Service()
    cart.run(
        1,
        lambda _, at_s: next((changes[from_s] for from_s in sorted(changes, reverse=True) if from_s <= at_s), "1.9"),
        until_s=11 * HOUR_S,
        every_s=120,
    )
    found = cart.finish()
    assert [insight.subject for insight in found] == list(changes.values())
    assert all(insight.reason.startswith("complete") for insight in found)


def test_a_roll_out_that_is_rolled_back_on_the_way_closes_with_that_reason() -> None:
    cart = Service()
    is_new = range(HOUR_S, HOUR_S + 4 * MINUTE_S)
    cart.run(
        3, lambda host, at_s: "2.0" if host == "web-0" and at_s in is_new else "1.9", until_s=2 * HOUR_S, every_s=30
    )
    (insight,) = cart.finish()
    assert (insight.status, insight.reason) == ("closed", "rolled back: version 2.0 is not seen any more")


def test_versions_side_by_side_are_one_deploy() -> None:
    """A canary that stays, on one host of six."""
    cart = Service()
    cart.run(
        6, lambda host, at_s: "2.0" if host == "web-5" and at_s >= HOUR_S else "1.9", until_s=4 * HOUR_S, every_s=60
    )
    (insight,) = cart.finish()
    assert (insight.status, insight.reason) == ("closed", "it has stayed beside the one before")
    assert insight.title.endswith("on 1 of 6 hosts")


def test_records_of_two_versions_on_one_host_that_alternate_are_one_deploy() -> None:
    cart = Service()
    cart.run(
        1, lambda host, at_s: "2.0" if at_s >= HOUR_S and at_s // 30 % 2 else "1.9", until_s=3 * HOUR_S, every_s=30
    )
    assert [insight.subject for insight in cart.finish()] == ["2.0"]


def test_a_canary_with_a_record_now_and_then_is_not_deployed_again_with_each() -> None:
    cart = Service()
    is_canary = range(HOUR_S, 100 * HOUR_S, 40 * MINUTE_S)
    cart.run(1, lambda host, at_s: "2.0" if at_s in is_canary else "1.9", until_s=24 * HOUR_S, every_s=240)
    assert [insight.subject for insight in cart.finish()] == ["2.0"]


def test_a_version_of_each_process_is_not_an_insight_for_each() -> None:
    cart = Service()
    cart.run(1, lambda _, at_s: f"build-{at_s // 120}" if at_s >= HOUR_S else "1.9", until_s=5 * HOUR_S, every_s=120)
    assert len(cart.finish()) == 6
    assert cart.graph.counts["deploys_suppressed_total"] == 4 * 30 - 6


def test_an_image_is_deployed_under_the_same_version() -> None:
    cart = Service()
    for at_s in range(0, 2 * HOUR_S, 60):
        digest = "shop/cart@sha256:bbb" if at_s >= HOUR_S else "shop/cart@sha256:aaa"
        cart.logs(at_s, [resource("web-0", version="1.9", image=digest)])
        cart.until(at_s)
    (insight,) = cart.finish()
    assert insight.title == (
        "cart: deployed image shop/cart@sha256:bbb at 23:20:00, after shop/cart@sha256:aaa, on 1 of 1 hosts"
    )
    assert (insight.image, insight.evidence.image_before, insight.version) == (
        "shop/cart@sha256:bbb",
        "shop/cart@sha256:aaa",
        "",
    )


def test_a_sidecar_is_deployed_after_its_own_image_and_not_after_that_of_the_service() -> None:
    cart = Service()
    for at_s in range(0, 2 * HOUR_S, 60):
        sidecar = resource("node-0", image="proxy:2" if at_s >= HOUR_S else "proxy:1", container="proxy")
        cart.logs(at_s, [resource("node-0", image="shop:7", container="server"), sidecar])
        cart.until(at_s)
    (insight,) = cart.finish()
    assert (insight.image, insight.evidence.image_before, insight.measures["hosts_before"]) == ("proxy:2", "proxy:1", 0)
    assert insight.reason == "complete: image proxy:1 is not seen any more"


def test_the_version_of_spans_and_the_image_of_log_records_are_one_deploy() -> None:
    cart = Service()
    for at_s in range(0, 2 * HOUR_S, 60):
        cart.spans(at_s, {"web-0": "2.0" if at_s >= HOUR_S else "1.9"})
        cart.logs(at_s, [resource("web-0", image="cart:2.0" if at_s >= HOUR_S + 120 else "cart:1.9")])
        cart.until(at_s)
    (insight,) = cart.finish()
    assert (insight.subject, insight.version, insight.image) == ("2.0", "2.0", "cart:2.0")
    assert (insight.evidence.version_before, insight.evidence.image_before) == ("1.9", "cart:1.9")


def test_a_version_that_log_records_spell_differently_is_no_second_deploy() -> None:
    cart = Service()
    for at_s in range(0, 2 * HOUR_S, 30):
        cart.spans(at_s, {"web-0": "2.0" if at_s >= HOUR_S + 60 else "1.9"})
        cart.logs(at_s, [resource("web-0", version="v2.0" if at_s >= HOUR_S else "v1.9")])
        cart.until(at_s)
    (insight,) = cart.finish()
    assert (insight.subject, insight.status, insight.measures["hosts_before"]) == ("v2.0", "closed", 0)


def test_a_deploy_that_follows_ends_the_one_before() -> None:
    versions = {0: "1.9", 1: "2.0", 2: "2.1"}
    cart = Service()
    cart.run(2, lambda host, at_s: versions[max(0, min(2, (at_s - HOUR_S) // 240 + 1))], until_s=2 * HOUR_S, every_s=30)
    first, second = cart.finish()
    assert (first.subject, first.status, first.reason) == ("2.0", "closed", "version 2.1 followed")
    assert (second.subject, second.evidence.version_before) == ("2.1", "2.0")


def test_late_records_deploy_nothing_and_those_in_time_move_the_beginning() -> None:
    cart = Service()
    cart.run(2, lambda host, at_s: "1.9", until_s=HOUR_S, every_s=60)
    cart.spans(HOUR_S - 300, {"web-0": "2.0"}, sent_s=HOUR_S)
    cart.until(HOUR_S + 10)
    assert cart.emitted == []
    cart.spans(HOUR_S, {"web-0": "2.0"})
    cart.until(HOUR_S + 20)
    cart.spans(HOUR_S - 40, {"web-1": "2.0"}, sent_s=HOUR_S + 20)
    cart.until(HOUR_S + 200)
    assert sorted(cart.statuses()) == ["open", "open", "retracted"]
    (held,) = [insight for insight in cart.finish() if insight.status != "retracted"]
    assert held.window.start_ms == BEGIN_MS + (HOUR_S - 40) * 1000
    assert [host.name for host in held.evidence.hosts] == ["web-1", "web-0"]


@pytest.mark.parametrize("cut_s", [ROLL_OUT_S - 90, ROLL_OUT_S + 60, ROLL_OUT_S + 180, ROLL_OUT_S + 600])
def test_a_restart_on_the_way_changes_nothing(cut_s: int) -> None:
    restarted = Service()
    restarted.run(6, rolling, until_s=cut_s, every_s=30)
    restarted.graph.restart()
    restarted.run(6, rolling, from_s=cut_s, until_s=HOUR_S, every_s=30)
    restarted.finish()
    assert restarted.emitted == undisturbed()


@cache
def undisturbed() -> list[Insight]:
    plain = Service()
    plain.run(6, rolling, until_s=HOUR_S, every_s=30)
    plain.finish()
    return plain.emitted
