"""Resources: the service, host and environment that produced telemetry."""

from dataclasses import dataclass
from typing import NamedTuple

import msgspec


class ServiceName(NamedTuple):
    """Identity of a service in its environment: `service.namespace`, "" where there is none, and `service.name`.

    All stages use its text as the name of a service (`namespace/name`, as OpenTelemetry writes the label `job` for
    Prometheus), so that two services of one name in two namespaces are two. Insights and tables hold the two parts. A
    namespace contains no `/` (`udfs.otlp.resource` ensures it).
    """

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "ServiceName":
        """Return the service of a text that `str` made."""
        namespace, slash, name = text.partition("/")
        return cls(namespace, name) if slash else cls("", text)

    def __str__(self) -> str:
        """Return the name alone without a namespace; `/name` where that name itself contains a `/`."""
        return _qualified(self.namespace, self.name)


def _qualified(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace or "/" in name else name


@dataclass(frozen=True, slots=True)
class Resource:
    """Producer of telemetry, read from resource attributes with the alias table of `udfs.otlp.resource`.

    env, service and host are never empty: their defaults are "default", "unknown_service" and "unknown_host".
    The other fields are "" where the resource has no such attribute.
    """

    env: str
    service: str
    host: str
    namespace: str = ""
    site_id: str = ""
    container: str = ""
    image: str = ""
    version: str = ""
    # The attributes, under their own names, that were asked for and are there, ascending by name; values as in
    # `LogRecord`.
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def qualified_service(self) -> str:
        """Return the service with its namespace, as all stages name it: see `ServiceName`."""
        return _qualified(self.namespace, self.service)


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
