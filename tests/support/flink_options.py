"""Program that loads configuration folders as Flink does, and judges them by the options in Flink's own classes.

`python -m tests.support.flink_options FOLDER...` prints a JSON object a line: faults, memory of JobManager and
TaskManager as Flink divides it, and keys whose value is Flink's default.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

from reasoner.stack.environment import flink_home

JARS: Final = ("lib/flink-dist-*", "opt/flink-python-*", "plugins/metrics-otel/*", "plugins/metrics-prometheus/*")
_FACTORY_CLASS: Final = "factory.class"
_STATIC: Final = 8  # java.lang.reflect.Modifier
_REPORTER: Final = "metrics.reporter."
# Options of a reporter that are no ConfigOption: that of Prometheus, and Flink's own of every reporter.
_OF_REPORTERS: Final = frozenset(("port", _FACTORY_CLASS, "interval"))


def options() -> dict[str, Any]:
    """Return Flink's ConfigOptions by their keys; a deprecated key has None."""
    java = get_gateway().jvm
    jars = [jar for pattern in JARS for jar in flink_home().glob(f"{pattern}.jar")]
    urls = get_gateway().new_array(java.java.net.URL, len(jars))
    for place, jar in enumerate(jars):
        urls[place] = java.java.io.File(str(jar)).toURI().toURL()
    loader = java.java.net.URLClassLoader(urls, java.Thread.currentThread().getContextClassLoader())
    found: dict[str, Any] = {}
    for name in (name for jar in jars for name in _option_classes(jar)):
        for field in java.Class.forName(name, False, loader).getDeclaredFields():
            is_option = field.getType().getSimpleName() == "ConfigOption" and field.getModifiers() & _STATIC
            if is_option and field.trySetAccessible():
                option = field.get(None)
                found[option.key()] = option
                for fallback in option.fallbackKeys():
                    if fallback.isDeprecated():
                        found.setdefault(fallback.getKey(), None)
    return found


def _option_classes(jar: Path) -> Iterator[str]:
    for name in ZipFile(jar).namelist():
        if name.startswith("org/apache/flink/") and "shaded" not in name and name.endswith("Options.class"):
            yield name.removesuffix(".class").replace("/", ".")


def judged(folder: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the faults of a folder, and what Flink makes of its memory settings."""
    runtime = get_gateway().jvm.org.apache.flink.runtime
    configuration = get_gateway().jvm.org.apache.flink.configuration
    loaded = configuration.GlobalConfiguration.loadConfiguration(folder)
    faults = [fault for key in sorted(loaded.keySet()) if (fault := _fault(key, loaded, known))]
    try:
        memory = [
            runtime.jobmanager.JobManagerProcessUtils.processSpecFromConfig(loaded).toString(),
            runtime.clusterframework.TaskExecutorProcessUtils.processSpecFromConfig(loaded).toString(),
        ]
    except Py4JJavaError as error:
        memory = []
        faults.append(str(error.java_exception.getMessage()))
    usual = [key for key in loaded.keySet() if (option := known.get(key)) and _is_default(key, option, loaded)]
    return {"faults": faults, "memory": memory, "usual": usual}


def _is_default(key: str, option: Any, loaded: Any) -> bool:
    """Return whether the value is Flink's default. A value that cannot be read is not."""
    return not _fault(key, loaded, {key: option}) and str(loaded.get(option)) == str(option.defaultValue())


def _fault(key: str, loaded: Any, known: dict[str, Any]) -> str:
    """Return what is wrong with a key of a loaded configuration, "" if nothing is."""
    if key.startswith(_REPORTER):
        key = key.removeprefix(_REPORTER).partition(".")[2]
        return "" if key in _OF_REPORTERS or known.get(key) else f"{key} is no option of a reporter"
    if key not in known:
        return f"{key} is unknown to Flink"
    if known[key] is None:
        return f"{key} is deprecated"
    try:
        loaded.getOptional(known[key])
    except Py4JJavaError as error:
        return f"{key}: {error.java_exception.getMessage()}"
    return ""


if __name__ == "__main__":
    of_flink = options()
    for argument in sys.argv[1:]:
        sys.stdout.write(json.dumps(judged(argument, of_flink)) + "\n")
