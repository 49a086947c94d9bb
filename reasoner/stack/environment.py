"""Where `make setup` put things: the checkout's `.tools` and `.venv` in, paths and process environments out."""

import os
import sys
from pathlib import Path

from reasoner.errors import CommandFailed

__all__ = ["checkout", "flink_env", "flink_home", "java_home", "kafka_jars", "tools"]

# Variables that would send PyFlink to other jars than the prepared ones.
_OTHER_JARS = ("FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR", "FLINK_BIN_DIR", "HADOOP_CLASSPATH")


def checkout() -> Path:
    """The folder of the repository that this package runs from."""
    return Path(__file__).resolve().parents[2]


def tools() -> Path:
    """The folder that `make setup` fills; REASONER_TOOLS names another one (an image that was made elsewhere)."""
    return Path(os.environ.get("REASONER_TOOLS") or checkout() / ".tools")


def java_home() -> Path:
    """The JDK 17 or 21 that `make setup` found or installed. Raises CommandFailed when it is not there any more."""
    return _prepared("java", "bin/java")


def flink_home() -> Path:
    """The prepared FLINK_HOME: the wheel's own with our jars in `lib`. Raises CommandFailed when it is missing."""
    return _prepared("flink", "bin/flink")


def kafka_jars() -> Path:
    """The folder of the broker's jars. Raises CommandFailed when it is missing."""
    return _prepared("jars/kafka", ".")


def flink_env(*, log_folder: Path | None = None, conf_folder: Path | None = None) -> dict[str, str]:
    """Environment for a process that runs PyFlink or one of Flink's scripts, such as `python -m jobs.insights`.

    log_folder: where Flink's own log files go; it must exist. conf_folder: Flink's configuration, else FLINK_HOME/conf.
    """
    home = flink_home()
    environment = dict(os.environ)
    for name in _OTHER_JARS:
        environment.pop(name, None)
    environment |= {
        # Each of glibc's arenas, eight a core by default, keeps what its threads have freed.
        "MALLOC_ARENA_MAX": environment.get("MALLOC_ARENA_MAX", "2"),
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(conf_folder or home / "conf"),
        "FLINK_LOG_DIR": str(log_folder or home / "log"),
        "JAVA_HOME": str(java_home()),
        # Flink's Python workers take `python` from PATH, so the interpreter's own folder must come first there.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
    }
    return environment


def _prepared(name: str, proof: str) -> Path:
    path = tools() / name
    if not (path / proof).exists():
        message = f"{path} is missing or incomplete: run `make setup` in {checkout()}"
        raise CommandFailed(message)
    return path
