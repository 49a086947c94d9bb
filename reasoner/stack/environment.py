"""What `make setup` or `reasoner setup` creates: its paths, how it is made, and environments of processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reasoner.errors import CommandFailed, WrongUse
from reasoner.folders import checkout, tools

_SETUP: Final = Path(__file__).with_name("setup.sh")

# Variables that would make PyFlink use other jars than the prepared ones.
_OTHER_JARS = ("FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR", "FLINK_BIN_DIR", "HADOOP_CLASSPATH")


class MissingPart(CommandFailed):
    """A part of the setup that is not made. part: its name; empty for what `make setup` makes."""

    def __init__(self, message: str, part: str) -> None:
        super().__init__(message)
        self.part = part


def prepare(parts: Sequence[str] = ()) -> None:
    """Download the jars by hash and make FLINK_HOME, where they are missing. Raises CommandFailed.

    parts: names of files in `parts` that are made instead. Raises WrongUse where there is no such part here.

    The script prints what it will download and what is missing on this machine; a second call does nothing.
    """
    names = {} if checkout() else {"REASONER_TOOLS": str(tools()), "REASONER_PYTHON": sys.executable}
    code = subprocess.run(["bash", str(_SETUP), *parts], env={**os.environ, **names}, check=False).returncode
    if code == 2:
        message = "this part cannot be made here: see the line above"
        raise WrongUse(message)
    if code:
        message = "the setup is not complete: see the lines above"
        raise CommandFailed(message)


def java_home() -> Path:
    """Return the JDK 17 or 21 that the setup found or installed. Raises CommandFailed if it is missing."""
    return _prepared("java", "bin/java")


def flink_home() -> Path:
    """Return the prepared FLINK_HOME: the wheel's own with our jars in `lib`. Raises CommandFailed if it is missing."""
    return _prepared("flink", "bin/flink")


def kafka_jars() -> Path:
    """Return the folder of the broker's jars. Raises CommandFailed if it is missing."""
    return _prepared("jars/kafka", ".")


def s3_server() -> Path:
    """Return the program of the S3 server. Raises CommandFailed if it is missing."""
    return program("s3", "versitygw")


def redis_server() -> Path:
    """Return the program of Redis. Raises CommandFailed if it is missing."""
    return program("redis", "redis-server")


def program(part: str, name: str) -> Path:
    """Return a program that a part of the setup makes. Raises MissingPart with the command if it is missing."""
    return _prepared(part, name, part) / name


def deploy_folder(name: str) -> Path:
    """Return a folder of `deploy`. Raises CommandFailed from an installed package, which does not have it."""
    root = checkout()
    if root is None:
        message = f"deploy/{name} is in a checkout only: run `reasoner stack` there"
        raise CommandFailed(message)
    return root / "deploy" / name


def flink_env(*, log_folder: Path | None = None, conf_folder: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that runs PyFlink or a script of Flink, such as `python -m jobs.insights`.

    log_folder: for Flink's own log files; it must exist. conf_folder: Flink's configuration, else FLINK_HOME/conf.
    """
    home = flink_home()
    environment = dict(os.environ)
    for name in _OTHER_JARS:
        environment.pop(name, None)
    environment |= {
        # Each arena of glibc, eight per core by default, keeps memory that its threads have freed.
        "MALLOC_ARENA_MAX": environment.get("MALLOC_ARENA_MAX", "2"),
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(conf_folder or home / "conf"),
        "FLINK_LOG_DIR": str(log_folder or home / "log"),
        "JAVA_HOME": str(java_home()),
        # Flink's Python workers take `python` from PATH, so the interpreter's own folder must come first there.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
    }
    return environment


def _prepared(name: str, proof: str, part: str = "") -> Path:
    path = tools() / name
    if not (path / proof).exists():
        root = checkout()
        command = f"`make setup` in {root}" if root and not part else f"`{f'reasoner setup {part}'.strip()}`"
        message = f"{path} is missing or incomplete: run {command}"
        raise MissingPart(message, part)
    return path
