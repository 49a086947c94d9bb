"""Rule of deploys on one window after the other: bounds of its model, and what repeated reports change."""

from collections.abc import Callable
from random import Random
from typing import Final

import pytest

from state_schemas.aggregates.releases import HostRelease, ReleaseWindow
from state_schemas.contracts.insight import fault_of
from state_schemas.state.deploys import DEPLOYS_CODEC, AttributeHistory, DeployModel, RollOut, ValueHistory
from state_schemas.state.detector import DetectorState
from tests.support.deploys import AT, INTERVAL_MS, Reports, judged
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.deploys.history import HOSTS_MAX, VALUES_MAX
from udfs.detect.deploys.rule import DeployConfig, evaluate_releases
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.releases import SEEN_MAX, merge_release_windows

Runs = Callable[[int], dict[str, str]]
REPLACED: Final = "complete: version {} is not seen any more"


def course(runs: Runs, minutes: int = 400) -> list[tuple[str, str, str]]:
    """Return the subject, what ran before and the end of each deploy. runs: what hosts have by the minute.

    It is a version, an image that begins with ":", or both.
    """
    reports: Reports = {}
    for minute in range(minutes):
        parts = [(host, text.partition(":")) for host, text in runs(minute).items()]
        reports[START_MS + minute * 60_000] = {
            HostRelease(version, colon + image, host) for host, (version, colon, image) in parts
        }
    last = {insight.insight_id: insight for insight in judged(reports)[1]}.values()
    befores = [insight.evidence.version_before or insight.evidence.image_before for insight in last]
    return [(insight.subject, before, insight.reason) for insight, before in zip(last, befores, strict=True)]


def on(*texts: str) -> dict[str, str]:
    return {f"web-{number}": text for number, text in enumerate(texts)}


def with_a_record_of(old: str, at_minute: int, runs: Runs) -> Runs:
    return lambda minute: runs(minute) | ({"old-0": old} if minute == at_minute else {})


@pytest.mark.parametrize("at_minute", [210, 239, 240, 241])
def test_a_record_of_an_old_version_hides_no_deploy_that_comes_at_that_time(at_minute: int) -> None:
    def versions(minute: int) -> dict[str, str]:
        return on("1", "1") if minute < 120 else on("2", "2") if minute < 240 else on("3", "3")

    expected = [("2", "1", REPLACED.format("1")), ("3", "2", REPLACED.format("2"))]
    assert course(with_a_record_of("1", at_minute, versions)) == expected

    def images(minute: int) -> dict[str, str]:
        return on("1:a") if minute < 120 else on("2:a") if minute < 240 else on("2:b")

    (*_, last) = course(with_a_record_of("1:a", at_minute, images))
    assert last[:2] == (":b", ":a")

    def back(minute: int) -> dict[str, str]:
        return on("0") if minute < 60 else on("1") if minute < 120 else on("2") if minute < 240 else on("1")

    (*_, last) = course(with_a_record_of("0", at_minute, back))
    assert last == ("1", "2", REPLACED.format("2"))


@pytest.mark.parametrize("later", [0, 1, 5, 9])
def test_a_version_and_an_image_that_come_back_are_one_deploy_even_where_one_of_them_is_seen_later(later: int) -> None:
    def runs(minute: int) -> dict[str, str]:
        image = "b" if 120 <= minute < 240 + later else "a"
        return {"web-0": "2" if 120 <= minute < 240 else "1", "logs-0": f":{image}"}

    assert course(runs) == [("2", "1", REPLACED.format("1")), ("1", "2", REPLACED.format("2"))]


def test_a_record_of_an_old_version_with_each_image_opens_no_more_than_six_in_an_hour() -> None:
    def flapping(minute: int) -> dict[str, str]:
        image = f":{max(0, (minute - 240) // 6)}"
        return {"web-0": f"2{image}" if minute >= 120 else f"1{image}"} | ({"old-0": "1"} if minute % 42 == 0 else {})

    assert len(course(flapping, 420)) == 1 + 6


@pytest.mark.parametrize("canary_minutes", [3, 10, 30, 150])
def test_a_return_to_an_earlier_version_on_the_way_is_a_deploy_and_what_went_on_is_not_complete(
    canary_minutes: int,
) -> None:
    """All hosts but the canary go back, and the canary follows after so many minutes."""

    def runs(minute: int) -> dict[str, str]:
        if minute < 250:
            return on(*["0" if minute < 120 else "1"] * 2, "2" if minute >= 240 else "0" if minute < 120 else "1")
        return on("0", "0", "2" if minute < 250 + canary_minutes else "0")

    first, second, third = course(runs, 480)
    assert first == ("1", "0", REPLACED.format("0"))
    assert second[:2] == ("2", "1")
    assert second[2] in ("version 0 followed", "rolled back: version 2 is not seen any more")
    assert third == ("0", "1", REPLACED.format("1"))


@pytest.mark.parametrize("stays", [3, 10, 12, 20])
@pytest.mark.parametrize("drain", [0, 20, 40, 60])
def test_a_rollback_is_said_once_however_slowly_a_host_drains(stays: int, drain: int) -> None:
    def runs(minute: int) -> dict[str, str]:
        if 120 <= minute < 120 + stays:
            return on("2", "2", "2")
        return on("1", "1", "2" if 120 <= minute < 120 + stays + drain else "1")

    first, *back = course(runs)
    assert first[:2] == ("2", "1")
    is_said = (
        stays == 3 or first[2] == "rolled back: version 2 is not seen any more"
    )  # version 1 was never away, or that
    assert back == ([] if is_said else [("1", "2", REPLACED.format("2"))])
    assert is_said is (stays == 3 or (stays == 10 and drain < 60))


def test_a_state_that_has_a_return_as_its_roll_out_says_nothing_of_it_until_it_has_replaced_the_other() -> None:
    pending = RollOut("version", START_MS, START_MS, "1", "", "2", "", True, ("web-0",), 1, ())
    history = AttributeHistory(START_MS - 1, 0, 9, {name: ValueHistory(0, 9, 9, {}) for name in ("1", "2")})
    table = ReleaseWindow(START_MS, (HostRelease("1", "", "web-0"), HostRelease("2", "", "web-1")), AT)
    window = ServiceWindow(ServiceKey("prod", "cart"), START_MS, START_MS + WINDOW_MS, table)
    after, found = evaluate_releases(DeployModel(history, roll_out=pending), window, DeployConfig())
    assert (found, after.roll_out, [one.value for one in after.pending]) == ([], None, ["1"])


def test_a_flood_of_versions_images_and_hosts_stays_within_the_bounds_and_the_contract() -> None:
    reports = {
        START_MS + number * INTERVAL_MS // 4: {
            HostRelease(f"{number}-{host}" + "v" * 240, f"image-{number}-{host}" + "i" * 230, f"host-{number}-{host}")
            for host in range(300)
        }
        for number in range(40)
    }
    model, found = judged(reports)
    for history in (model.version, model.image):
        assert len(history.values) == VALUES_MAX
    assert found
    assert not any(fault_of(insight) for insight in found)
    assert model.suppressed > 0
    same = {HostRelease("1.0", "", f"host-{number}") for number in range(2 * HOSTS_MAX)}
    model, _ = judged({START_MS: same, START_MS + INTERVAL_MS: same})
    assert len(model.version.values["1.0"].hosts) == HOSTS_MAX


def test_a_report_that_is_repeated_within_its_interval_changes_nothing() -> None:
    random = Random(3)
    first: Reports = {}
    for interval in range(12):
        for host in range(4):
            release = HostRelease(f"{random.randrange(2) if interval > 5 else 0}.0", "", f"web-{host}")
            start_ms = START_MS + interval * INTERVAL_MS + random.randrange(20) * WINDOW_MS
            first.setdefault(start_ms, set()).add(release)
    repeated = {start_ms: set(releases) for start_ms, releases in first.items()}
    for start_ms, releases in first.items():
        repeated.setdefault(start_ms + WINDOW_MS * random.randrange(1, 8), set()).update(releases)
    (plain, found), (other, found_again) = judged(first), judged(repeated)
    assert found
    assert found_again == found
    other.last_end_ms = plain.last_end_ms
    assert other == plain


def test_a_state_of_a_service_with_a_hundred_hosts_is_small() -> None:
    seen = {HostRelease("1.0", "registry.example/shop/cart@sha256:" + "a" * 64, f"node-{n}") for n in range(100)}
    model, _ = judged({START_MS + n * INTERVAL_MS: seen for n in range(50)})
    state: DetectorState[DeployModel, ReleaseWindow] = DetectorState("f", "prod|cart", model, {}, {}, {}, 0)
    assert len(DEPLOYS_CODEC.encode(state)) < 2_000


def test_windows_merge_in_any_order_and_grouping_to_the_same_bounded_one() -> None:
    releases = [HostRelease(f"{n}", "", f"web-{n % 7}") for n in range(2 * SEEN_MAX)]
    parts = [ReleaseWindow(START_MS, tuple(releases[first::3]), AT) for first in range(3)]
    (whole,) = merge_release_windows(parts)
    (pair,) = merge_release_windows(parts[1:])
    assert merge_release_windows([pair, parts[0]]) == (whole,)
    assert len(whole.seen) == SEEN_MAX
