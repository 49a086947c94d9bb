"""How a job reaches a cluster from this machine, and what may not go along."""

from importlib.util import find_spec
from typing import Literal

from jobs.secret_names import has_secret
from jobs.settings import JobConfig
from reasoner.errors import CommandFailed
from reasoner.stack.environment import flink_home

# `client`: Flink's command line on this machine runs the program of the job. `rest`: the JobManager does.
Way = Literal["client", "rest"]


def usual_way() -> Way:
    """Return `client` where Flink and PyFlink are on this machine, else `rest`."""
    try:
        flink_home()
    except CommandFailed:
        return "rest"
    return "client" if find_spec("pyflink") else "rest"


def secret_properties(config: JobConfig) -> list[str]:
    """Return the properties of Kafka and the lake that have a secret in the settings; one of a provider is none."""
    sections = {"kafka": config.kafka.properties, "lake": config.lake.properties}
    return [
        f"{section}.properties.{name}"
        for section, properties in sections.items()
        for name, value in properties.items()
        if has_secret(name) and value and "${" not in value
    ]
