"""Location of what `make setup` creates: paths in the checkout's `.tools` and `.venv`, and process environments."""

import os
import sys
from pathlib import Path

from reasoner.errors import CommandFailed

# Variables that would make PyFlink use other jars than the prepared ones.
_OTHER_JARS = ("FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR", "FLINK_BIN_DIR", "HADOOP_CLASSPATH")


def checkout() -> Path:
    """Return the folder of the repository from which this package runs."""
    return Path(__file__).resolve().parents[2]


def tools() -> Path:
    """Return the folder that `make setup` fills; REASONER_TOOLS names another one (an image built elsewhere)."""
    return Path(os.environ.get("REASONER_TOOLS") or checkout() / ".tools")


def java_home() -> Path:
    """Return the JDK 17 or 21 that `make setup` found or installed. Raises CommandFailed if it is missing."""
    return _prepared("java", "bin/java")


def flink_home() -> Path:
    """Return the prepared FLINK_HOME: the wheel's own with our jars in `lib`. Raises CommandFailed if it is missing."""
    return _prepared("flink", "bin/flink")


def kafka_jars() -> Path:
    """Return the folder of the broker's jars. Raises CommandFailed if it is missing."""
    return _prepared("jars/kafka", ".")


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


def _prepared(name: str, proof: str) -> Path:
    path = tools() / name
    if not (path / proof).exists():
        message = f"{path} is missing or incomplete: run `make setup` in {checkout()}"
        raise CommandFailed(message)
    return path
