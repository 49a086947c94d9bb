"""For each shipped rule a recording that it must match, and a near miss. Each has services of its own."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tests.support.recordings import Recording

EVERY_S: Final = 2  # between two requests of a service
KNOWN_S: Final = 660  # by then what is usual for a service is known: its latency, its calls and its lines
END_S: Final = 840
HOUR_S: Final = 3_600


class Pair(NamedTuple):
    """What a rule must match, and what it must not."""

    matching: Callable[[Recording], None]
    near_miss: Callable[[Recording], None]
    # Steps in the timeline of the match, and its service.
    steps: tuple[str, ...]
    service: str


def times(start_s: float, end_s: float = END_S) -> list[float]:
    return [start_s + EVERY_S * number for number in range(int((end_s - start_s) / EVERY_S))]


def slow_from(recording: Recording, service: str, start_s: int, hosts: str = "abc", slow_hosts: str = "abc") -> None:
    """Let a service answer each request in 20 ms, and from start_s on in 900 ms on some of its hosts."""
    for number, host in enumerate(hosts):
        name, shift_s = f"web-{host}", number / len(hosts)
        recording.requests(service, times(shift_s, start_s), host=name)
        recording.requests(service, times(start_s + shift_s), host=name, took_ms=900 if host in slow_hosts else 20)


def calls_from(recording: Recording, service: str, start_s: int, failing_s: int = END_S) -> None:
    """Let a service make one call a request, and four from start_s on.

    One request in 20 fails, and from failing_s on every second one. Where no request has failed before, it is not known
    how many calls those that fail make.
    """
    for number in range(END_S):
        recording.requests(
            service,
            [number],
            calls=["SELECT items"] * (4 if number >= start_s else 1),
            failed=number % (2 if number >= failing_s else 20) == 0,
        )


def deploy(recording: Recording, error_s: int, warning_s: int | None = None) -> None:
    """Deploy at KNOWN_S; a new error, and slow a minute later. warning_s: of a new warning."""
    recording.requests("pay", times(0, KNOWN_S), version="1.4.0")
    recording.requests("pay", times(KNOWN_S, KNOWN_S + 60), version="1.5.0")
    recording.requests("pay", times(KNOWN_S + 60), version="1.5.0", took_ms=900)
    for at_s in times(0):
        recording.line(at_s, "pay", "paid", "INFO")
    for at_s in times(error_s, error_s + 20):
        recording.line(at_s, "pay", "java.lang.IllegalStateException: no provider for currency")
    for at_s in times(warning_s, warning_s + 20) if warning_s else []:
        recording.line(at_s, "pay", "providers are loaded anew because their file has changed", "WARN")


def restarts(recording: Recording, hosts: str, every_s: int = 40) -> None:
    for number, host in enumerate(hosts):
        body = f"back-off 40s restarting failed container=app pod=ads-5d9{number % 3}_shop(1f0c)"
        recording.line(100 + every_s * number, "kubelet", body, "INFO", f"node-{host}")


def memory_then_slow(recording: Recording) -> None:
    body = "[612.345s][info][gc] GC(42) Pause Full (G1 Compaction Pause) 2040M->2039M(2048M) 1234.567ms"
    recording.line(KNOWN_S, "search", body, "INFO")
    slow_from(recording, "search", KNOWN_S + 30)


def slow_then_memory(recording: Recording) -> None:
    """Be slow before memory runs out, and collect as usual before."""
    slow_from(recording, "search", KNOWN_S)
    for number, at_s in enumerate(times(KNOWN_S - 60, KNOWN_S)):
        body = f"[{at_s}s][info][gc] GC({number}) Pause Full (Metadata GC Threshold) 40M->12M(256M) 35.678ms"
        recording.line(at_s, "search", body, "INFO")
    recording.line(KNOWN_S + 90, "search", "java.lang.OutOfMemoryError: Java heap space")


LAG: Final = (
    "[Consumer clientId=billing-1, groupId=billing] consumer poll timeout has expired. This means the time between "
    "subsequent calls to poll() was longer than the configured max.poll.interval.ms"
)


def lag_then_slow(recording: Recording, lagging: str) -> None:
    recording.line(KNOWN_S, lagging, LAG, "WARN")
    slow_from(recording, "billing", KNOWN_S + 60)


def usual_lag_then_slow(recording: Recording) -> None:
    """Let another service lag, and this one say that it does not."""
    lag_then_slow(recording, "invoices")
    for at_s in times(KNOWN_S - 60):
        recording.line(at_s, "billing", "consumer lag of orders-3: 0, offset 884213", "INFO")


def cache_then_calls(recording: Recording, without_cache: str) -> None:
    for at_s in times(KNOWN_S - 20, KNOWN_S + 20):
        body = "org.springframework.data.redis.RedisConnectionFailureException: Unable to connect to Redis"
        recording.line(at_s, without_cache, body, "WARN")
    calls_from(recording, "catalog", KNOWN_S)


def pool_and_time_outs(recording: Recording, line_s: int) -> None:
    pool_exhausted(recording, "orders", line_s)
    time_outs(recording, "orders")


def pool_and_other_time_outs(recording: Recording) -> None:
    """Let a pool be exhausted after the time-outs, and another one before time-outs of calls to another service."""
    pool_and_time_outs(recording, 321)
    pool_exhausted(recording, "stock", 299)
    recording.requests("stock", times(0, 320), caller="web")
    time_outs(recording, "payments")


def pool_exhausted(recording: Recording, service: str, line_s: int) -> None:
    recording.line(line_s, service, "HikariPool-1 - Connection is not available, request timed out after 30000ms.")


def time_outs(recording: Recording, service: str) -> None:
    """Let the calls of `web` to a service time out from 300 s on."""
    recording.requests(service, times(0, 300), caller="web")
    recording.requests(service, times(300, 320), took_ms=2_000, failed=True, caller="web")


def two_slow(recording: Recording, slow_hosts: str) -> None:
    for service in ("ads", "mail"):
        slow_from(recording, service, KNOWN_S, slow_hosts=slow_hosts)


def names_as_information(recording: Recording) -> None:
    """Let two services fail to find a name, and a third one that tries again say so as information."""
    names(recording, ("shop", "tax", "tax"))
    recording.line(400, "fraud", "getaddrinfo EAI_AGAIN pay.shop, trying again", "INFO")


def names(recording: Recording, services: tuple[str, ...]) -> None:
    bodies = (
        'Get "https://pay.shop/v1": dial tcp: lookup pay.shop on 10.96.0.10:53: no such host',
        "java.net.UnknownHostException: pay.shop: Name or service not known",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
    )
    for number, (service, body) in enumerate(zip(services, bodies, strict=True)):
        recording.line(300 + 30 * number, service, body)


def job(recording: Recording, end_s: int) -> None:
    name = "Job: [SimpleJob: [name=nightly-export]]"
    recording.line(120, "export", f"{name} launched with the following parameters: [{{run.id=7}}]", "INFO")
    if end_s:
        body = f"{name} completed with the following parameters: [{{run.id=7}}] and the following status: [COMPLETED]"
        recording.line(end_s, "export", body, "INFO")
    for at_s in range(END_S, HOUR_S + 600, 240):
        recording.line(at_s, "other", "the environment has telemetry", "INFO")


PAIRS: Final[Mapping[str, Pair]] = {
    "deploy-new-error-slow": Pair(
        lambda recording: deploy(recording, KNOWN_S + 30),
        lambda recording: deploy(recording, KNOWN_S - 30, warning_s=KNOWN_S + 30),
        ("deploy", "new-error", "slow"),
        "pay",
    ),
    "restart-loop": Pair(
        lambda recording: restarts(recording, "xxx"),
        lambda recording: restarts(recording, "xyz"),
        ("restarts",),
        "kubelet",
    ),
    "memory-pressure-then-slow": Pair(memory_then_slow, slow_then_memory, ("memory-pressure", "slow"), "search"),
    "queue-lag-then-slow": Pair(
        lambda recording: lag_then_slow(recording, "billing"),
        usual_lag_then_slow,
        ("queue-lag", "slow"),
        "billing",
    ),
    "errors-then-retry-storm": Pair(
        lambda recording: calls_from(recording, "checkout", KNOWN_S + 20, KNOWN_S),
        lambda recording: calls_from(recording, "checkout", KNOWN_S, KNOWN_S + 120),
        ("errors", "retries"),
        "checkout",
    ),
    "cache-miss-storm": Pair(
        lambda recording: cache_then_calls(recording, "catalog"),
        lambda recording: cache_then_calls(recording, "stock"),
        ("cache-lost", "more-calls"),
        "catalog",
    ),
    "noisy-neighbour": Pair(
        lambda recording: two_slow(recording, "a"),
        lambda recording: two_slow(recording, "abc"),
        ("slow-services",),
        "mail",
    ),
    "pool-exhausted-then-time-outs": Pair(
        lambda recording: pool_and_time_outs(recording, 299),
        pool_and_other_time_outs,
        ("pool-exhausted", "time-outs"),
        "orders",
    ),
    "name-or-certificate-failure": Pair(
        lambda recording: names(recording, ("shop", "tax", "fraud")),
        names_as_information,
        ("callers",),
        "",
    ),
    "job-not-finished": Pair(
        lambda recording: job(recording, 0), lambda recording: job(recording, HOUR_S), ("started",), "export"
    ),
}
