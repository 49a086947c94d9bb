"""Resources: the service, host and environment that produced telemetry."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Resource:
    """Producer of telemetry, read from resource attributes with the alias table of `udfs.otlp.resource`.

    env, service and host are never empty: their defaults are "default", "unknown_service" and "unknown_host".
    The other fields are "" where the resource has no such attribute.
    """

    env: str
    service: str
    host: str
    site_id: str = ""
    container: str = ""
    image: str = ""
    version: str = ""


class ServiceInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Resource attributes of a service, each from the newest record that has it; "" at time 0 where no record has it.

    `udfs.service_info.merge_info` merges attribute by attribute, so that a record without a version does not hide the
    version of the others.
    """

    version: str = ""
    version_ms: int = 0
    image: str = ""
    image_ms: int = 0
    container: str = ""
    container_ms: int = 0
    site_id: str = ""
    site_id_ms: int = 0
