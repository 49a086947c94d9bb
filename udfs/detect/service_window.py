"""One service in one window: the input of a detector."""

from typing import Generic, NamedTuple, TypeVar

from state_schemas.telemetry.resource import ServiceName

A = TypeVar("A")


class ServiceKey(NamedTuple):
    """A service of an environment, with its namespace; `service` is "" where a detector watches whole environments."""

    env: str
    service: str

    @property
    def name(self) -> ServiceName:
        """Return namespace and name, as insights and tables hold them."""
        return ServiceName.parse(self.service)

    @classmethod
    def of(cls, key: str) -> "ServiceKey":
        """Parse the key of a state, which `udfs.insights.ids.service_key` made."""
        env, _, service = key.partition("|")
        return cls(env, service)


class ServiceWindow(NamedTuple, Generic[A]):
    """Aggregate of a service over event times in [start_ms, end_ms), epoch ms."""

    key: ServiceKey
    start_ms: int
    end_ms: int
    table: A
