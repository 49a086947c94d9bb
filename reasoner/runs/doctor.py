"""Doctor: what is right and wrong about a job's settings, cluster, topics and the messages in them, a line each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

from jobs.settings import Detection, JobConfig
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.insight_topic import hidden
from reasoner.clients.topic_samples import Sample, TopicState, newest_messages, topic_states
from reasoner.errors import CommandFailed
from reasoner.recordings.otlp_json import NotOtlp
from reasoner.recordings.read import times_ns
from reasoner.runs.foreign_format import foreign_format
from reasoner.runs.insight_view import hidden_text, stays_hidden
from reasoner.runs.preflight import Preflight
from reasoner.runs.way import usual_way
from state_schemas.telemetry.signals import SIGNALS, SignalType
from udfs.insights.wording import elapsed, percent
from udfs.otlp.decoder import SpanDecoder
from udfs.otlp.signal import signal_of

Level = Literal["ok", "note", "fault"]
SAMPLES: Final = 200  # messages of each partition that are read, ...
SAMPLED_MS: Final = 3_600_000  # ... from so far back to now
QUIET_MS: Final = 300_000  # a topic without a message for so long
SKEW_MS: Final = 60_000  # event time ahead of the Kafka timestamp
LATE_SHARE_MAX: Final = 0.01
EARLY_LAG_MAX_MS: Final = 60_000  # of half of the records: a window is first evaluated 5 s after its end
ADMITTED_SHARE: Final = 0.999  # of the records, by the lateness that is proposed
_NS_PER_MS: Final = 1_000_000


class Finding(NamedTuple):
    """One thing that was looked at. text: what was found, and for a note or fault the next step."""

    level: Level
    text: str


@dataclass(frozen=True)
class Doctor:
    """The examination of one job. now_ms: wall clock, epoch ms; only the age of the last messages depends on it."""

    config: JobConfig
    file: str
    rest: FlinkRest
    now_ms: int

    def findings(self) -> Iterator[Finding]:
        """Yield what was found: cluster, topics and tables first, then the messages of each source."""
        yield from self._places()
        insights = self.config.kafka.topics.insights
        names = [insights, *(topic for _, topic in self._sources)]
        try:
            states = topic_states(self.config.kafka.bootstrap_servers, names)
        except CommandFailed as failure:
            yield Finding("fault", str(failure))
            return
        if insights in states and "compact" in states[insights].cleanup:
            text = f"{insights} is compacted, which keeps one insight of a service: set its cleanup.policy to delete"
            yield Finding("fault", text)
        for signal, topic in self._sources:
            if topic in states:
                try:
                    yield from self._topic(signal, topic, states[topic])
                except CommandFailed as failure:
                    yield Finding("fault", str(failure))

    @property
    def _sources(self) -> list[tuple[SignalType, str]]:
        topics = self.config.kafka.topics
        return [(signal, topic) for signal in SIGNALS if (topic := getattr(topics, signal))]

    @cached_property
    def _decoder(self) -> SpanDecoder:
        return SpanDecoder()

    def _places(self) -> Iterator[Finding]:
        checks = Preflight("insights", self.config, self.file, self.rest, usual_way())
        yield from self._cluster(checks)
        for name, faults in (
            (f"topics on {self.config.kafka.bootstrap_servers}", checks.topic_faults()),
            (f"tables in {self.config.lake.place}", checks.table_faults()),
        ):
            try:
                found = list(faults)
            except CommandFailed as failure:
                found = [str(failure)]
            yield from (Finding("fault", text) for text in found)
            if not found:
                yield Finding("ok", name)
        with suppress(CommandFailed):  # the cluster does not answer: it is among the faults
            yield from (Finding("note", text) for text in checks.notes())
        yield from self._readers()

    def _readers(self) -> Iterator[Finding]:
        """Yield whether readers see the end of the topic of insights. Where it cannot be read, a fault says so."""
        topic = self.config.kafka.topics.insights
        try:
            found = hidden(self.config.kafka.bootstrap_servers, topic)
        except CommandFailed:
            return  # among the faults
        if found is None:
            yield Finding("ok", f"{topic}: readers see all messages")
        else:
            stays = stays_hidden(found, self.now_ms, self.config.engine.checkpoint_interval_ms)
            yield Finding("fault" if stays else "note", hidden_text(topic, found))

    def _cluster(self, checks: Preflight) -> Iterator[Finding]:
        """Yield the faults of a cluster on which the job is to be started; there are none where it runs."""
        try:
            states = [job.state for job in self.rest.overview() if job.name == self.config.name and job.is_active]
            faults = [] if len(states) == 1 else checks.cluster_faults()
        except CommandFailed as failure:
            yield Finding("fault", str(failure))
            return
        yield from (Finding("fault", text) for text in faults)
        if not faults:
            place = f"job {self.config.name} is {states[0]} on" if states else "Flink"
            yield Finding("ok", f"{place} {self.rest.url}")

    def _topic(self, signal: SignalType, topic: str, state: TopicState) -> Iterator[Finding]:
        since_ms = self.now_ms - SAMPLED_MS
        samples = newest_messages(self.config.kafka.bootstrap_servers, topic, since_ms, SAMPLES)
        if not samples:
            yield Finding("note", f"{topic}: {state.text()}, no message")
            return
        age_ms = self.now_ms - samples[-1].timestamp_ms
        text = f"{topic}: {state.text()}, last message {elapsed(max(0, age_ms))} ago"
        yield Finding("note" if age_ms > QUIET_MS else "ok", text)
        lateness_ms = self.config.detection.lateness_ms
        if 0 <= state.retention_ms < 10 * lateness_ms:
            yield Finding(
                "fault",
                f"{topic}: {state.text()}, expected over {elapsed(10 * lateness_ms)}: what a stopped job has not read "
                "is lost; raise retention.ms",
            )
        yield from self._messages(signal, topic, samples)

    def _messages(self, signal: SignalType, topic: str, samples: Sequence[Sample]) -> Iterator[Finding]:
        lags_ms: list[int] = []
        faults: Counter[str] = Counter()
        for sample in samples:
            try:
                lags_ms += _lags(sample, self._times_ms(signal, sample))
            except NotOtlp as error:
                foreign = foreign_format(sample.value)
                faults[f"{foreign.name}; {foreign.mend}" if foreign else str(error)] += 1
        for fault, number in sorted(faults.items()):
            yield Finding("fault", f"{topic}: {number} of {len(samples)} messages are {fault}")
        if lags_ms:
            yield from lag_findings(topic, lags_ms, self.config.detection)

    def _times_ms(self, signal: SignalType, sample: Sample) -> list[int]:
        """Return the event times of a message. Raises NotOtlp."""
        found = signal_of(sample.value)
        times = times_ns(signal, sample.value, self._decoder)
        if not times and found != signal:
            message = f"requests of {found}, expected {signal}; check the topics of the exporter"
            raise NotOtlp(message)
        return [time_ns // _NS_PER_MS for time_ns in times if time_ns]


def _lags(sample: Sample, times_ms: Iterable[int]) -> Iterator[int]:
    """Yield by how much each record is older than its message, in ms; negative where it is newer."""
    return (sample.timestamp_ms - time_ms for time_ms in times_ms)


def lag_findings(topic: str, lags_ms: Sequence[int], detection: Detection) -> Iterator[Finding]:
    """Yield what the ages of records in their messages say: shares of late ones and of clocks that are ahead."""
    ordered, lateness_ms = sorted(lags_ms), detection.lateness_ms
    late = sum(lag_ms > lateness_ms for lag_ms in ordered) / len(ordered)
    typical_ms = max(0, ordered[len(ordered) // 2])
    typical = elapsed(typical_ms)
    if late > LATE_SHARE_MAX:
        admits_ms = ordered[min(len(ordered) - 1, int(len(ordered) * ADMITTED_SHARE))]
        proposed_ms = -(-admits_ms // 60_000) * 60_000
        yield Finding(
            "fault",
            f"{topic}: {percent(late, 1)} of {len(ordered)} records come too late for detection (over {lateness_ms} ms "
            f"old): set detection.lateness_ms to {proposed_ms}, which admits {percent(ADMITTED_SHARE, 1)}; final "
            "results then come so much later",
        )
    else:
        yield Finding("ok", f"{topic}: records are {typical} old when they come, {percent(late, 1)} too late")
    if typical_ms > EARLY_LAG_MAX_MS and detection.emit_when == "early":
        yield Finding(
            "fault",
            f"{topic}: half of the records are {typical} old or older when they come, so early results are of windows "
            "without most of their records: set detection.emit_when to final",
        )
    ahead = sum(lag_ms < -SKEW_MS for lag_ms in ordered) / len(ordered)
    if ahead:
        worst = elapsed(-ordered[0])
        yield Finding(
            "fault" if ahead > LATE_SHARE_MAX else "note",
            f"{topic}: {percent(ahead, 1)} of records are ahead of their message, by {worst} at most: mend the clocks "
            "of their hosts; over 5 min they are rejected",
        )
