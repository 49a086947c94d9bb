"""Insight of a deploy: which version or image came, what ran before, and which hosts have followed."""

from typing import Final

from state_schemas.contracts.insight import Contribution, Evidence, Insight
from state_schemas.state.deploys import RollOut
from state_schemas.telemetry.resource import ServiceInfo
from udfs.detect.finding import Finding
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.wording import clock, kafka_ranges

__all__ = ["EXPIRED", "SIDE_BY_SIDE", "complete", "report", "rolled_back", "superseded"]

HOSTS_LISTED: Final = 16
EXPIRED: Final = Course("closed", "no more records of the service")
SIDE_BY_SIDE: Final = Course("closed", "it has stayed beside the one before")


def complete(roll_out: RollOut) -> Course:
    """Return the course of a roll-out whose value before is gone."""
    return Course("closed", f"complete: {roll_out.attribute} {roll_out.value_before} is not seen any more")


def rolled_back(roll_out: RollOut) -> Course:
    """Return the course of a roll-out whose own value is gone."""
    return Course("closed", f"rolled back: {_named(roll_out)} is not seen any more")


def superseded(by: RollOut) -> Course:
    """Return the course of a roll-out after which another one begins."""
    return Course("closed", f"{_named(by)} followed")


def report(key: ServiceKey, roll_out: RollOut, course: Course) -> Insight:
    """Return the insight of a roll-out with at least one host."""
    hosts = roll_out.hosts
    verb = "back to" if roll_out.is_known else "deployed"
    text = f"{verb} {_named(roll_out)} at {clock(roll_out.start_ms)}, after {roll_out.value_before}"
    text += f", on {len(hosts)} of {len(hosts) + roll_out.hosts_before} hosts"
    return Finding(
        kind="deploy",
        subject=roll_out.value,
        start_ms=roll_out.start_ms,
        end_ms=roll_out.end_ms,
        severity="info",
        confidence=0.95,
        text=text,
        measures={
            "hosts": float(len(hosts)),
            "hosts_before": float(roll_out.hosts_before),
            "roll_out_s": (roll_out.end_ms - roll_out.start_ms) / 1000,
        },
        evidence=Evidence(
            hosts=tuple(Contribution(host, round(1 / len(hosts), 4), 0.0, 0) for host in hosts[:HOSTS_LISTED]),
            kafka=kafka_ranges(roll_out.ranges),
            version_before=roll_out.version_before,
            image_before=roll_out.image_before,
        ),
        info=ServiceInfo(version=roll_out.version, image=roll_out.image),
    ).candidate(key, course)


def _named(roll_out: RollOut) -> str:
    return f"{roll_out.attribute} {roll_out.value}"
