"""Makers of wrong situations that need no engine: settings, servers, files and installations."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.situations import doubles
from tests.situations.situation import Place

LINE: Final = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"k\xc3\xbcche"}}]},'
    b'"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","severityNumber":17,'
    b'"body":{"stringValue":"Ofen zu hei\xc3\x9f"}}]}]}]}\n'
)
CHECK_KAFKA: Final = "check kafka.bootstrap_servers"
CHECK_CATALOG: Final = "check lake.uri, lake.user, lake.password_file"


def settings_file(content: bytes) -> Callable[[Place], None]:
    """Return a maker of `job.yaml` with this content."""
    return lambda place: place.file("job.yaml", content)


def settings(**sections: Any) -> Callable[[Place], None]:
    return lambda place: place.settings(**sections)


def lake(uri: str = "jdbc:sqlite:catalog.db", warehouse: str = "", **more: Any) -> Callable[[Place], None]:
    """Return a maker of settings with this catalog."""

    def made(place: Place) -> None:
        target = warehouse or f"file://{place.folder}/warehouse"
        place.settings(lake={"uri": uri, "warehouse": target, **more})

    return made


def file(name: str, content: bytes) -> Callable[[Place], None]:
    """Return a maker of settings and of a file beside them."""

    def made(place: Place) -> None:
        place.settings()
        place.file(name, content)

    return made


def server(double: Callable[[Any], str]) -> Callable[[Place], None]:
    """Return a maker of settings whose broker and catalog are at a server that is none."""

    def made(place: Place) -> None:
        port = place.values["PORT"] = double(place.stack)
        place.settings(
            kafka={"bootstrap_servers": f"127.0.0.1:{port}"},
            lake={"uri": f"jdbc:postgresql://127.0.0.1:{port}/lake", "warehouse": f"file://{place.folder}/warehouse"},
        )

    return made


def without_modules(*names: str) -> Callable[[Place], None]:
    """Return a maker of an installation that lacks these modules."""

    def made(place: Place) -> None:
        place.settings()
        packages, commands = place.folder / "packages", place.folder / "bin"
        packages.mkdir()
        commands.mkdir()
        (installed,) = {Path(path) for path in sys.path if path.endswith("site-packages")}
        for module in installed.iterdir():
            if module.name not in names and module.suffix != ".pth":
                (packages / module.name).symlink_to(module)
        program = commands / "reasoner"
        call = "from reasoner.cli import main; main()"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -c "{call}" "$@"\n')
        program.chmod(0o755)
        root = Path(__file__).parents[2]
        place.environ |= {"PYTHONPATH": f"{packages}:{root}"}
        place.values["BIN"] = str(commands)

    return made


def long_recording(place: Place) -> None:
    place.file("long.jsonl", LINE * 200_000)


def without_tools(place: Place) -> None:
    place.settings()
    (place.folder / "tools").mkdir()
    place.environ["REASONER_TOOLS"] = str(place.folder / "tools")


def busy_port(place: Place) -> None:
    place.values["BUSY"] = doubles.silent(place.stack)


def store(place: Place, port: str, bucket: str) -> None:
    """Make settings of a warehouse in this bucket of an object store on the port."""
    place.values["PORT"] = port
    keys = {"s3.access-key-id": "key", "s3.secret-access-key": "secret", "s3.region": "eu-central-1"}
    properties = {"s3.endpoint": f"http://127.0.0.1:{port}", **keys}
    lake(warehouse=f"s3://{bucket}/lake", properties=properties)(place)


def empty_store(place: Place) -> None:
    unknown = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
    store(place, doubles.http(place.stack, {}, unknown), "no-such-bucket")


def silent_store(place: Place) -> None:
    store(place, doubles.silent(place.stack), "bucket")


def old_cluster(place: Place) -> None:
    place.settings()
    place.values["PORT"] = doubles.http(place.stack, doubles.FLINK_1_20)
    kafka = {"bootstrap_servers": "127.0.0.1:9", "properties": {"client.id": "x"}}
    place.settings(kafka=kafka)


def postgres(address: str) -> Callable[[Place], None]:
    return lake(f"jdbc:postgresql://{address}/lake")


def disk_lake(place: Place) -> None:
    place.settings(lake={"uri": f"jdbc:sqlite:{place.folder}/c.db", "warehouse": f"file://{place.folder}/disk/lake"})
