"""The S3 server and Redis are killed: what they have confirmed is there after the next start, behind its secret."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import S3FileSystem

from reasoner.stack import RunningStack, StackSettings, running
from reasoner.stack.environment import redis_server, s3_server
from reasoner.stack.running import components_of
from reasoner.stack.s3 import keys
from reasoner.waiting import wait_until
from tests.support.components import skip_without
from tests.support.crash import kill_leader

pytestmark = pytest.mark.deploy

NAMES = ("s3", "redis")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[RunningStack]:
    skip_without(s3_server, redis_server)
    with running(StackSettings(folder=tmp_path).with_auto_ports(), NAMES) as started:
        yield started


def kill_and_start(servers: RunningStack, name: str) -> None:
    record = servers.supervisor.record(name)
    assert record is not None
    assert kill_leader(record)
    servers.supervisor.up(components_of(servers.settings, [name]))


def ask(servers: RunningStack, password: str, command: str) -> str:
    """Return the last line that Redis answers to a command."""
    with socket.create_connection(("127.0.0.1", servers.settings.redis_port), timeout=5.0) as connection:
        connection.sendall(f"AUTH {password}\r\n{command}\r\nQUIT\r\n".encode())
        with connection.makefile() as answers:
            return answers.read().splitlines()[-2]


def store_of(servers: RunningStack, secret: str) -> S3FileSystem:
    key = keys(servers.settings)["aws_access_key_id"]
    return S3FileSystem(
        access_key=key, secret_key=secret, endpoint_override=servers.settings.s3_url, region="us-east-1"
    )


def listening(port: int) -> set[str]:
    """Return the addresses on which a server listens on this port, as the kernel writes them."""
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()]
    local = [words[1] for words in lines if words[3] == "0A"]
    return {address.partition(":")[0] for address in local if int(address.rpartition(":")[2], 16) == port}


def test_store_servers(servers: RunningStack, verdict: dict[str, Any]) -> None:
    password = (servers.settings.folder / "redis" / "password").read_text()
    store = store_of(servers, keys(servers.settings)["aws_secret_access_key"])
    with store.open_output_stream("warehouse/object") as output:
        output.write(b"x" * 12_000_000)  # more than a part of an upload
    assert ask(servers, password, "SET key value") == "+OK"
    data = servers.settings.folder / "redis" / "data"
    wait_until(lambda: any(b"value" in file.read_bytes() for file in data.rglob("*.aof")), "Redis has written", 10.0)
    for name in NAMES:
        kill_and_start(servers, name)
    kept = store.get_file_info("warehouse/object").size
    verdict |= {"s3_bytes_kept": kept, "redis_value_kept": ask(servers, password, "GET key")}
    assert verdict["redis_value_kept"] == "value"
    assert kept == 12_000_000
    assert "WRONGPASS" in ask(servers, "another", "PING") or "NOAUTH" in ask(servers, "another", "PING")
    with pytest.raises(OSError, match=r"SIGNATURE|ACCESS_DENIED|403"):
        store_of(servers, "another-secret").open_input_stream("warehouse/object")
    assert listening(servers.settings.s3_port) | listening(servers.settings.redis_port) == {"0100007F"}
    verdict["pass"] = True
