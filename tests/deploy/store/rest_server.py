"""A REST catalog for tests: Iceberg's reference implementation of the protocol, over a catalog in SQLite."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from reasoner.folders import tools
from reasoner.stack.component import Component
from reasoner.stack.environment import java_home
from reasoner.stack.settings import free_ports
from tests.support.servers import not_answering, serving

_HERE: Final = Path(__file__).parent / "rest_catalog"
_OF_FLINK: Final = ("flink/hadoop-client-*.jar", "flink/commons-logging-*.jar", "flink/sqlite-jdbc-*.jar", "s3/*.jar")


@contextmanager
def rest_catalog(folder: Path, properties: Mapping[str, str], tokens: Sequence[str]) -> Iterator[str]:
    """Yield the address of the catalog while the `with` body runs.

    properties: of the JDBC catalog behind it, without its address. tokens: those that it admits.
    """
    folder.mkdir()
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    given = {"uri": f"jdbc:sqlite:{folder}/catalog.db", "jdbc.schema-version": "V1", **properties}
    (folder / "catalog.properties").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    (folder / "tokens").write_text("\n".join(tokens))
    files = [str(folder / name) for name in ("catalog.properties", "tokens")]
    java = [str(java_home() / "bin" / "java"), "-Xmx256m", "-cp", ":".join(map(str, _jars()))]
    server = Component(
        name="rest-catalog",
        folder=folder,
        command=lambda: [*java, str(_HERE / "RestCatalog.java"), str(port), *files],
        not_ready_because=partial(not_answering, f"{uri}/v1/config", HTTPStatus.UNAUTHORIZED),
    )
    with serving(server):
        yield uri


def _jars() -> list[Path]:
    """Return the jars of the server: its own, fetched by Maven and compared by hash, and those of FLINK_HOME."""
    folder = tools() / "jars" / "test-rest-catalog"
    lines = (_HERE / "jars.sha256").read_text().splitlines()
    wanted = {name: found for found, name in map(str.split, lines)}
    if _hashes(folder) != wanted:
        if shutil.which("mvn") is None:
            pytest.skip("Maven is not installed: run `make setup` as root, or `apt-get install maven`")
        shutil.rmtree(folder, ignore_errors=True)
        options = ("-DincludeScope=runtime", f"-DoutputDirectory={folder}")
        command = ["mvn", "-B", "-q", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies", *options]
        environment = {**os.environ, "JAVA_HOME": str(java_home())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2_000:]
        assert _hashes(folder) == wanted, f"{folder} and {_HERE}/jars.sha256 differ"
    return [*folder.glob("*.jar"), *(jar for some in _OF_FLINK for jar in (tools() / "jars").glob(some))]


def _hashes(folder: Path) -> dict[str, str]:
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
