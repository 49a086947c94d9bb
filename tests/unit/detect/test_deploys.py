"""Rule of deploys on one window after the other: bounds of its model, and what repeated reports change."""

from random import Random

from state_schemas.aggregates.releases import HostRelease, ReleaseWindow
from state_schemas.contracts.insight import fault_of
from state_schemas.state.deploys import DEPLOYS_CODEC, DeployModel
from state_schemas.state.detector import DetectorState
from tests.support.deploys import AT, INTERVAL_MS, Reports, judged
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.deploys.history import HOSTS_MAX, VALUES_MAX
from udfs.releases import SEEN_MAX, merge_release_windows


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
