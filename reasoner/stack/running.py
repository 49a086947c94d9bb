"""A running stack: component names to components, and a stack that ends with its `with` body."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reasoner.errors import CommandFailed, WrongUse
from reasoner.stack.component import Component
from reasoner.stack.flink import jobmanager, taskmanager, taskmanager_name
from reasoner.stack.kafka import kafka
from reasoner.stack.postgres import postgres
from reasoner.stack.process import kill_leader
from reasoner.stack.settings import StackSettings
from reasoner.stack.supervisor import Supervisor

__all__ = ["COMPONENTS", "RunningStack", "components_of", "running"]

# Names for users, in the order of starting; `flink` is a JobManager and its TaskManagers.
COMPONENTS = ("kafka", "postgres", "flink")


def components_of(settings: StackSettings, names: Sequence[str]) -> list[Component]:
    """Return the components of these names in starting order, for any order of the names. Raises WrongUse."""
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        message = f"unknown component {', '.join(unknown)}; there are {', '.join(COMPONENTS)}"
        raise WrongUse(message)
    made: dict[str, list[Component]] = {
        "kafka": [kafka(settings)],
        "postgres": [postgres(settings)],
        "flink": [jobmanager(settings), *(taskmanager(settings, n + 1) for n in range(settings.flink_taskmanagers))],
    }
    return [component for name in COMPONENTS if name in names for component in made[name]]


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A started stack: its settings with the addresses of the components, and functions that kill and restart them."""

    settings: StackSettings
    supervisor: Supervisor

    def kill_taskmanager(self, number: int) -> int:
        """Kill only the process of a TaskManager with SIGKILL, as in a crash; return its process id.

        Its Python workers must detect it by themselves. Raises CommandFailed if it does not run.
        """
        record = self.supervisor.record(taskmanager_name(number))
        if record is None or not kill_leader(record):
            message = f"{taskmanager_name(number)} does not run, so it cannot be killed"
            raise CommandFailed(message)
        return record.pid

    def start_taskmanager(self, number: int) -> None:
        """Start the TaskManager of this number, after a kill or as an additional one; return when REST lists it."""
        self.supervisor.up([taskmanager(self.settings, number)])


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
    before = [name for name in supervisor.recorded_names() if supervisor.record(name)]
    settings = settings.model_copy(update=supervisor.running_ports()).resolved()
    supervisor.up(components_of(settings, names))
    try:
        yield RunningStack(settings, supervisor)
    finally:
        if not keep:
            supervisor.down([name for name in supervisor.recorded_names() if name not in before])
