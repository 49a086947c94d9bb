"""Processes of the stack that are killed as in a crash."""

import psutil

from reasoner.errors import CommandFailed
from reasoner.stack.flink import taskmanager, taskmanager_name
from reasoner.stack.process import ProcessRecord
from reasoner.stack.running import RunningStack


def kill_leader(record: ProcessRecord) -> bool:
    """Kill this one process with SIGKILL but not its children. -> False if it was not running."""
    process = record.process()
    if process:
        process.kill()
        psutil.wait_procs([process], 10.0)
    return process is not None


def kill_taskmanager(stack: RunningStack, number: int) -> int:
    """Kill only the process of a TaskManager and return its process id; its workers must detect it by themselves."""
    record = stack.supervisor.record(taskmanager_name(number))
    if record is None or not kill_leader(record):
        message = f"{taskmanager_name(number)} does not run, so it cannot be killed"
        raise CommandFailed(message)
    return record.pid


def start_taskmanager(stack: RunningStack, number: int) -> None:
    """Start the TaskManager of this number, after a kill or as an additional one; return when REST lists it."""
    stack.supervisor.up([taskmanager(stack.settings, number)])
