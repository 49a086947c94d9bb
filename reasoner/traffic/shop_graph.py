"""Services, hosts and calls of the shop, and the one incident that a seed plants in it. Pure data and arithmetic."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Final, Literal

IncidentKind = Literal["latency", "latency_host", "latency_operation", "errors"]

REQUESTS_PER_S: Final = 26.0  # gives each service 100 to 260 SERVER spans per 10 s


@dataclass(frozen=True, slots=True)
class Call:
    """A blocking call. required: if it fails, the SERVER span of the caller fails too."""

    service: str
    operation: str
    probability: float
    required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of a service.

    - own_ms: median of the time spent in the service itself, without calls.
    - share: of the requests from outside.
    """

    name: str
    own_ms: float
    calls: tuple[Call, ...]
    share: float


_CALL: Final = re.compile(r"(\w+)\.(\w+)(?: ([\d.]+))?( \?)?")


def _call(text: str) -> Call:
    """Build a call of `service.operation`, its probability if it is below 1, and ` ?` if it is not required."""
    found = _CALL.fullmatch(text)
    assert found, f"{text!r} is no call"
    return Call(found[1], found[2], float(found[3] or 1), not found[4])


def _operation(name: str, own_ms: float, *calls: str, share: float = 0.0) -> Operation:
    return Operation(name, own_ms, tuple(map(_call, calls)), share)


# Calls go downwards only, one after the other, so a slow callee makes every caller above it wait for all of it.
SHOP: Final[dict[str, tuple[Operation, ...]]] = {
    "frontend": (
        _operation(
            "GET /",
            12.0,
            *("users.GetProfile", "catalog.ListFeatured", "catalog.Search 0.3"),
            *("recommendation.ForUser ?", "recommendation.Trending 0.25 ?"),
            share=0.22,
        ),
        _operation("GET /product/{id}", 14.0, "catalog.GetProduct", "recommendation.Similar ?", share=0.24),
        _operation(
            "GET /cart",
            13.0,
            *("cart.GetCart", "checkout.Preview", "checkout.ValidateCoupon 0.3", "recommendation.AlsoBought 0.5 ?"),
            share=0.18,
        ),
        _operation("POST /cart", 12.0, "users.Authenticate", "cart.AddItem", share=0.14),
        _operation("POST /checkout", 16.0, "checkout.PlaceOrder", share=0.12),
        _operation("GET /orders/{id}", 13.0, "users.Authenticate", "checkout.GetOrder", share=0.10),
    ),
    "checkout": (
        _operation(
            "PlaceOrder",
            30.0,
            *("cart.GetCart", "users.GetAddresses", "payment.CheckFraud 0.5", "payment.Charge"),
            *("shipping.CreateShipment", "cart.Empty ?", "users.UpdateProfile 0.3 ?"),
        ),
        _operation("Preview", 24.0, "shipping.Quote", "shipping.ListCarriers 0.3 ?", "payment.Methods"),
        _operation("GetOrder", 22.0, "shipping.Track", "payment.Receipt"),
        _operation("ValidateCoupon", 20.0),
    ),
    "recommendation": (
        _operation("ForUser", 34.0, "catalog.GetProduct"),
        _operation("Similar", 30.0),
        _operation("AlsoBought", 32.0),
        _operation("Trending", 26.0),
    ),
    "cart": (
        _operation("GetCart", 16.0),
        _operation("AddItem", 18.0, "catalog.GetStock"),
        _operation("Empty", 15.0),
        _operation("Merge", 21.0),
    ),
    "catalog": (
        _operation("GetProduct", 16.0),
        _operation("ListFeatured", 22.0),
        _operation("GetStock", 15.0),
        _operation("Search", 28.0),
    ),
    "users": (
        _operation("GetProfile", 18.0),
        _operation("Authenticate", 30.0, "cart.Merge 0.2 ?"),
        _operation("GetAddresses", 19.0),
        _operation("UpdateProfile", 25.0),
    ),
    "payment": (
        _operation("Methods", 45.0),
        _operation("Charge", 70.0),
        _operation("Receipt", 40.0),
        _operation("CheckFraud", 60.0),
    ),
    "shipping": (
        _operation("Quote", 36.0),
        _operation("CreateShipment", 50.0),
        _operation("Track", 32.0),
        _operation("ListCarriers", 28.0),
    ),
}
_HOSTS_OF: Final = {"frontend": 3, "catalog": 3}

# host.name of each instance; no host runs two services, so a host names its service.
HOSTS: Final[dict[str, tuple[str, ...]]] = {
    service: tuple(f"{service}-{n}.shop.internal" for n in range(_HOSTS_OF.get(service, 2))) for service in SHOP
}

INCIDENT_MS_MIN: Final = 90_000
INCIDENT_MS_MAX: Final = 180_000
QUIET_BEFORE_PERCENT: Final = 55  # of the interval, so that a baseline can be learned
QUIET_AFTER_MS: Final = 60_000  # so that the end of the incident can be seen
OPERATION_SHARE_MIN: Final = 0.2  # of a service's spans; a rarer operation cannot be distinguished from chance in 90 s


@dataclass(frozen=True, slots=True)
class Incident:
    """A planted incident: the truth with which a detector is compared.

    - start_ms, end_ms: epoch ms, half open; it applies to SERVER spans of `service` that *start* in it (and, if given,
      of this operation or on this host).
    - factor: for the latency kinds, how many times longer each of these spans is, 2.5 to 10; for "errors", the share of
      them that fails, 0.1 to 0.4 (their duration does not change).
    - affected: the services upstream, ascending, whose own SERVER spans get slower too because they wait (for "errors":
      fail too, because the call was required). An insight about one of them is a consequence, not a false alarm.
    """

    kind: IncidentKind
    service: str
    operation: str | None
    host: str | None
    start_ms: int
    end_ms: int
    factor: float
    affected: tuple[str, ...]


def plan_incident(seed: int, start_ms: int, duration_ms: int) -> Incident | None:
    """Return the incident of this seed in start_ms..start_ms + duration_ms; None if the interval is shorter than 334 s.

    It starts after 55 % of the interval, lasts 90 to 180 s and ends 60 s or more before the interval does. For one host
    or one operation the factor is at least 4, because it is only a part of the spans of its service.
    """
    earliest_ms = -(-duration_ms * QUIET_BEFORE_PERCENT // 100)
    room_ms = duration_ms - QUIET_AFTER_MS - earliest_ms
    if room_ms < INCIDENT_MS_MIN:
        return None
    random = Random(f"incident-{seed}")
    kinds: tuple[IncidentKind, ...] = ("latency", "latency_host", "latency_operation", "errors")
    kind = random.choice(kinds)
    service = random.choice(sorted(SHOP))
    operation = random.choice(_common_operations(service)) if kind == "latency_operation" else None
    host = random.choice(HOSTS[service]) if kind == "latency_host" else None
    length_ms = random.randint(INCIDENT_MS_MIN, min(INCIDENT_MS_MAX, room_ms))
    begin_ms = start_ms + earliest_ms + random.randint(0, room_ms - length_ms)
    if kind == "errors":
        factor = round(random.uniform(0.1, 0.4), 2)
    else:
        factor = round(random.uniform(2.5 if kind == "latency" else 4.0, 10.0), 1)
    incident = Incident(kind, service, operation, host, begin_ms, begin_ms + length_ms, factor, ())
    return replace(incident, affected=_upstream(incident))


def _common_operations(service: str) -> list[str]:
    rates = {operation.name: calls_per_request()[service, operation.name] for operation in SHOP[service]}
    return [name for name, rate in rates.items() if rate >= OPERATION_SHARE_MIN * sum(rates.values())]


def _upstream(incident: Incident) -> tuple[str, ...]:
    hit = {
        (incident.service, operation.name)
        for operation in SHOP[incident.service]
        if incident.operation in (None, operation.name)
    }
    waits_for_failure_only = incident.kind == "errors"
    while True:
        callers = {
            (service, operation.name)
            for service, operation in _operations()
            for call in operation.calls
            if (call.service, call.operation) in hit and (call.required or not waits_for_failure_only)
        }
        if callers <= hit:
            return tuple(sorted({service for service, _ in hit} - {incident.service}))
        hit |= callers


def _operations() -> Iterator[tuple[str, Operation]]:
    return ((service, operation) for service, operations in SHOP.items() for operation in operations)


@cache
def calls_per_request() -> dict[tuple[str, str], float]:
    """Return the expected SERVER spans of each (service, operation) for one request from outside."""
    by_name = {(service, operation.name): operation for service, operation in _operations()}
    rates = dict.fromkeys(by_name, 0.0)

    def add(key: tuple[str, str], rate: float) -> None:
        rates[key] += rate
        for call in by_name[key].calls:
            add((call.service, call.operation), rate * call.probability)

    for key, operation in by_name.items():
        if operation.share:
            add(key, operation.share)
    return rates
