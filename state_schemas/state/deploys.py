"""State of the detector of deploys, one for each service."""

from typing import Final, Literal

import msgspec

from state_schemas.aggregates.releases import ReleaseWindow
from state_schemas.codec import zipped
from state_schemas.state.detector import DetectorState
from state_schemas.telemetry.message import OffsetRange


class ValueHistory(msgspec.Struct, array_like=True, gc=False):
    """One version, or one image, of a service. An active interval is one with a value of the same attribute."""

    # Numbers of the active intervals in which it was seen first and last, since it came or came back.
    first_active: int
    last_active: int
    # Number of intervals with it.
    intervals: int
    # Host -> number since the epoch of the newest interval in which it had the value: the newest two only.
    hosts: dict[str, int]
    # Names of the containers that had it, ascending, "" for one without a name; a few.
    containers: tuple[str, ...] = ()


class AttributeHistory(msgspec.Struct, array_like=True, gc=False):
    """The values of one attribute of a service: its versions, or its images."""

    # Start of the first window with a value, 0 before there is one.
    since_ms: int = 0
    # Number since the epoch of the newest interval with a value, and number of such intervals.
    interval: int = 0
    active: int = 0
    values: dict[str, ValueHistory] = msgspec.field(default_factory=dict)


class RollOut(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A deploy that goes on. A version or image that does not change is ""."""

    # The attribute by which it is followed.
    attribute: Literal["version", "image"]
    start_ms: int
    # End of the newest window in which a host followed.
    end_ms: int
    version: str
    image: str
    version_before: str
    image_before: str
    # Whether what came was known before, as after a rollback: it is reported once the value before is gone.
    is_known: bool
    # In the order in which they followed.
    hosts: tuple[str, ...]
    # Number of hosts with the value before that have not followed.
    hosts_before: int
    # Of the messages that show hosts that follow.
    ranges: tuple[OffsetRange, ...]
    # Number of hosts at the newest revision.
    hosts_reported: int = 0

    @property
    def value(self) -> str:
        return self.version if self.attribute == "version" else self.image

    @property
    def value_before(self) -> str:
        return self.version_before if self.attribute == "version" else self.image_before


class DeployModel(msgspec.Struct, array_like=True, gc=False):
    """What a service runs."""

    version: AttributeHistory = msgspec.field(default_factory=AttributeHistory)
    image: AttributeHistory = msgspec.field(default_factory=AttributeHistory)
    roll_out: RollOut | None = None
    # Start of the newest deploys, with and without an insight, ascending.
    begun_ms: tuple[int, ...] = ()
    # Number of deploys without an insight, because there were too many.
    suppressed: int = 0
    last_end_ms: int = 0
    # Values that came back while another ran, in that order: nothing is said of them yet, because both may stay.
    pending: tuple[RollOut, ...] = ()


DEPLOYS_CODEC: Final = zipped("deploys", DetectorState[DeployModel, ReleaseWindow])
