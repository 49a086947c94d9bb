"""A running stack: component names to components, and a stack that ends with its `with` body."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from reasoner.errors import WrongUse, nearest
from reasoner.stack.collector import collectors
from reasoner.stack.component import Component
from reasoner.stack.flink import jobmanager, taskmanager
from reasoner.stack.kafka import kafka
from reasoner.stack.postgres import postgres
from reasoner.stack.prometheus import alertmanager, prometheus
from reasoner.stack.redis import redis
from reasoner.stack.s3 import s3
from reasoner.stack.settings import StackSettings
from reasoner.stack.supervisor import Supervisor

Made = Callable[[StackSettings], list[Component]]


def _one(make: Callable[[StackSettings], Component]) -> Made:
    return lambda settings: [make(settings)]


# Names for users; `flink` is a JobManager and its TaskManagers.
COMPONENTS: Final = ("kafka", "postgres", "flink")
# Components that start only where they are asked for; `reasoner setup NAME` makes their programs.
OPTIONAL: Final[Mapping[str, Made]] = {
    "s3": _one(s3),
    "redis": _one(redis),
    "prometheus": _one(prometheus),
    "alertmanager": _one(alertmanager),
    "collector": collectors,
}


def components_of(settings: StackSettings, names: Sequence[str]) -> list[Component]:
    """Return the components of these names in starting order, for any order of the names. Raises WrongUse."""
    known = (*COMPONENTS, *OPTIONAL)
    unknown = [name for name in names if name not in known]
    if unknown:
        message = f"unknown component {', '.join(unknown)}; {nearest(unknown[0], known)}"
        raise WrongUse(message)
    made = {**OPTIONAL, "kafka": _one(kafka), "postgres": _one(postgres), "flink": _flink}
    settings = _with_neighbours(settings, names)
    return [component for name, make in made.items() if name in names for component in make(settings)]


def settled(settings: StackSettings, supervisor: Supervisor) -> StackSettings:
    """Return the settings with the ports of what runs, a free port for each auto, and what Flink must know of it."""
    settings = settings.model_copy(update=supervisor.running_ports()).resolved()
    return _with_neighbours(settings, [record.name for record in supervisor.running()])


def _with_neighbours(settings: StackSettings, names: Sequence[str]) -> StackSettings:
    """Return the settings of a Flink beside these components."""
    seen = {"flink_metrics": "prometheus" in names, "flink_s3": "s3" in names}
    return settings.model_copy(update={name: True for name, there in seen.items() if there})


def _flink(settings: StackSettings) -> list[Component]:
    workers = range(1, settings.flink_taskmanagers + 1)
    return [jobmanager(settings), *(taskmanager(settings, number) for number in workers)]


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A started stack: its settings, with the addresses of the components, and its supervisor."""

    settings: StackSettings
    supervisor: Supervisor


@contextmanager
def running(
    settings: StackSettings,
    names: Sequence[str],
    *,
    report: Callable[[str], None] = lambda _: None,
    keep: bool = False,
) -> Iterator[RunningStack]:
    """Yield the stack with the named components; stop what it started afterwards, or when this process is killed.

    Components of the folder that already run are used as they are and stay. keep: leave everything running.
    """
    supervisor = Supervisor(settings.folder.expanduser().resolve(), die_with_parent=not keep, report=report)
    before = [record.name for record in supervisor.running()]
    settings = _with_neighbours(settled(settings, supervisor), names)
    supervisor.up(components_of(settings, names))
    try:
        yield RunningStack(settings, supervisor)
    finally:
        if not keep:
            supervisor.down([name for name in supervisor.recorded_names() if name not in before])
