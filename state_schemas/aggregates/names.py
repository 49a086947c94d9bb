"""Names beyond a cardinality limit."""

from typing import Final, Literal

import msgspec

from state_schemas.telemetry.message import OffsetRange

OTHER: Final = "other"  # hosts, operations and services beyond their bound


class NameOverflow(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """In this window, names beyond `names_max` were counted under `other`. example: the first by alphabet.

    subject: the attribute whose names were too many; of environments, env is `other`; of patterns, those of a service.
    """

    env: str
    start_ms: int
    names_max: int
    example: str
    ranges: tuple[OffsetRange, ...] = ()
    subject: Literal["service.name", "deployment.environment.name", "log.pattern"] = "service.name"
    service: str = ""
