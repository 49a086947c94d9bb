"""Components of the stack as native processes: settings in, a running Kafka, PostgreSQL and Flink out."""

from reasoner.stack.running import RunningStack, running
from reasoner.stack.settings import StackSettings

__all__ = ["RunningStack", "StackSettings", "running"]
