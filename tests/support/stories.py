"""Stories: a few numbers that describe the events in a small fleet; Hypothesis shrinks them well."""

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True, slots=True)
class Episode:
    """An anomaly of a service from window `first` on. value: latency factor or error share."""

    service: int
    first: int
    windows: int
    value: float = 0.0

    def covers(self, service: int, window: int) -> bool:
        return self.service == service and self.first <= window < self.first + self.windows


@dataclass(frozen=True, slots=True)
class Story:
    """Events in a small fleet, from which its telemetry follows.

    rate: spans of a service in a window.
    slow, failing: episodes of high latency and of errors.
    holes: episodes without spans. mute: episodes in which spans log no line; value: the share of them.
    deploys: episodes of another version; value: the version. Hosts follow one each window.
    late_share: share of the spans that is sent after the allowed lateness.
    logs: whether services write logs as well.
    calls: whether service-0 calls the others, with client spans over most of their server spans.
    """

    seed: int = 1
    services: int = 2
    hosts: int = 2
    operations: int = 2
    rate: int = 8
    windows: int = 30
    slow: tuple[Episode, ...] = ()
    failing: tuple[Episode, ...] = ()
    holes: tuple[Episode, ...] = ()
    mute: tuple[Episode, ...] = ()
    deploys: tuple[Episode, ...] = ()
    late_share: float = 0.0
    logs: bool = False
    calls: bool = False


def episodes(windows: int, services: int, low: float, high: float) -> st.SearchStrategy[tuple[Episode, ...]]:
    """Return a strategy for none to two episodes, most of which start after the warm-up."""
    episode = st.builds(
        Episode,
        st.integers(0, services - 1),
        st.integers(8, max(8, windows - 6)) | st.integers(0, windows),
        st.integers(4, 9) | st.integers(1, 20),
        st.sampled_from((low, (low + high) / 2, high)),
    )
    return st.lists(episode, max_size=2).map(tuple)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a story, mostly with an episode. No message holds more calls than are selected for pairing."""
    windows, services = draw(st.integers(15, 32)), draw(st.integers(1, 2))
    return Story(
        seed=draw(st.integers(0, 999)),
        services=services,
        hosts=draw(st.integers(1, 3)),
        operations=draw(st.integers(1, 3)),
        rate=draw(st.integers(1, 8)),
        windows=windows,
        slow=draw(episodes(windows, services, 3.0, 60.0)),
        failing=draw(episodes(windows, services, 0.3, 1.0)),
        holes=draw(episodes(windows, services, 0.0, 0.0)),
        mute=draw(episodes(windows, services, 0.8, 1.0)),
        deploys=draw(episodes(windows, services, 2.0, 4.0)),
        late_share=draw(st.sampled_from((0.0, 0.0, 0.1))),
        logs=draw(st.booleans()),
        calls=draw(st.booleans()),
    )


def busy(seed: int = 1) -> Story:
    """Return a story with a spike, failures, an interval without spans, late spans, logs and calls."""
    return Story(
        seed=seed,
        windows=34,
        slow=(Episode(0, 12, 8, 20.0),),
        failing=(Episode(1, 14, 7, 0.8),),
        holes=(Episode(1, 26, 5),),
        mute=(Episode(0, 17, 7, 0.9),),
        late_share=0.05,
        logs=True,
        calls=True,
    )
