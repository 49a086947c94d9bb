"""Laws of deploys: versions side by side are one, a rollback is one of its own, a container has versions of its own."""

from random import Random
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from state_schemas.aggregates.releases import HostRelease
from state_schemas.contracts.insight import Insight
from tests.support.deploys import INTERVAL_MS, Reports, judged
from tests.support.traffic import START_MS, WINDOW_MS

HOUR: Final = 12  # intervals
DAY: Final = 24 * HOUR
IMAGES: Final = {"server": "cart:0", "istio-proxy": "istio:0"}
shares = st.sampled_from((0.05, 0.2, 0.4, 0.7, 0.9, 0.98, 1.0))
seeds = st.integers(0, 1_000_000).map(Random)


def report(reports: Reports, random: Random, interval: int, release: HostRelease) -> None:
    """Report a release in a window of an interval."""
    start_ms = START_MS + interval * INTERVAL_MS + random.randrange(INTERVAL_MS // WINDOW_MS) * WINDOW_MS
    reports.setdefault(start_ms, set()).add(release)


def last_revisions(reports: Reports) -> list[Insight]:
    """Return the last revision of each insight, in the order in which they opened."""
    return list({insight.window.start_ms: insight for insight in judged(reports)[1]}.values())


@given(random=seeds, hosts=st.integers(1, 3), old=shares, new=shares, is_apart=st.booleans())
def test_versions_side_by_side_for_a_day_are_at_most_one_deploy(
    random: Random, hosts: int, old: float, new: float, is_apart: bool
) -> None:
    """Each in its share of the intervals, on the same hosts or on others: a canary, a cron job under the same name."""
    reports: Reports = {}
    for interval in range(DAY):
        for host in range(hosts):
            if interval < 2 or random.random() < old:
                report(reports, random, interval, HostRelease("1.9", "", f"web-{host}"))
            if interval >= 2 * HOUR and random.random() < new:
                report(reports, random, interval, HostRelease("2.0", "", f"{'job' if is_apart else 'web'}-{host}"))
    found = last_revisions(reports)
    assert [insight.subject for insight in found] in ([], ["2.0"])
    assert not found or "deployed version 2.0" in found[0].title


@given(
    random=seeds,
    hosts=st.integers(1, 6),
    stays=st.integers(HOUR, 4 * HOUR),
    takes=st.integers(0, 4),
    quiet=st.sets(st.integers(0, 5 * HOUR), max_size=4),
)
def test_a_rollback_is_one_deploy_that_is_named_as_such(
    random: Random, hosts: int, stays: int, takes: int, quiet: set[int]
) -> None:
    """Over hosts that follow in so many intervals; in quiet intervals no host sends anything."""
    reports: Reports = {}
    moves = [(2 * HOUR + random.randint(0, takes), 2 * HOUR + stays + random.randint(0, takes)) for _ in range(hosts)]
    for interval in sorted(set(range(8 * HOUR)) - {2 + place for place in quiet}):
        for host, (to_new, back) in enumerate(moves):
            version = "2.0" if to_new <= interval < back else "1.9"
            report(reports, random, interval, HostRelease(version, "", f"web-{host}"))
    first, second = last_revisions(reports)
    assert (first.subject, first.evidence.version_before, first.status) == ("2.0", "1.9", "closed")
    assert (second.subject, second.evidence.version_before, second.status) == ("1.9", "2.0", "closed")
    assert "back to version 1.9" in second.title
    assert second.title.endswith(f"on {hosts} of {hosts} hosts")


@given(
    random=seeds,
    changes=st.dictionaries(st.integers(1, 11), st.sampled_from(sorted(IMAGES)), min_size=1),
    seen=st.fixed_dictionaries(dict.fromkeys(IMAGES, st.sampled_from((0.5, 0.9, 1.0)))),
)
def test_each_container_of_a_pod_has_deploys_of_its_own(
    random: Random, changes: dict[int, str], seen: dict[str, float]
) -> None:
    """changes: the container that gets another image, by hour. seen: share of the intervals in which each is seen."""
    reports: Reports = {}
    images = dict(IMAGES)
    expected = []
    for interval in range(DAY // 2):
        container = changes.get(interval // HOUR) if interval % HOUR == 0 else None
        if container:
            name, _, number = images[container].partition(":")
            expected.append((f"{name}:{int(number) + 1}", images[container]))
            images[container] = expected[-1][0]
        for host in range(2):
            for container, image in images.items():
                if interval < 2 or random.random() < seen[container]:
                    report(reports, random, interval, HostRelease("", image, f"node-{host}", container))
    found = [(insight.subject, insight.evidence.image_before) for insight in last_revisions(reports)]
    assert found == expected
