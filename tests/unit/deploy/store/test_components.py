"""S3 server and Redis as components: their secrets stand in files of their owner alone and in no other setting."""

from dataclasses import replace
from pathlib import Path

import pytest

from reasoner.errors import CommandFailed
from reasoner.stack import StackSettings
from reasoner.stack.redis import redis
from reasoner.stack.running import components_of, settled
from reasoner.stack.s3 import credentials_file, flink_environment, flink_options, keys, s3
from reasoner.stack.supervisor import Supervisor


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings(folder=tmp_path).with_auto_ports().resolved()


def test_keys_are_made_once_and_only_their_owner_reads_them(settings: StackSettings) -> None:
    s3(settings).prepare()
    path = credentials_file(settings)
    first = path.read_text()
    s3(settings).prepare()
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert (path.parent / "data").stat().st_mode & 0o777 == 0o700


def test_a_password_of_redis_stands_in_files_of_its_owner(settings: StackSettings) -> None:
    redis(settings).prepare()
    folder = settings.folder / "redis"
    assert (folder / "password").read_text() in (folder / "redis.conf").read_text()
    assert {(folder / name).stat().st_mode & 0o777 for name in ("password", "redis.conf")} == {0o600}


def test_no_argument_and_no_option_of_flink_holds_a_key(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasoner.stack.s3.s3_server", lambda: Path("versitygw"))
    s3(settings).prepare()
    secrets = keys(settings).values()
    beside = settings.model_copy(update={"flink_s3": True})
    shown = [*s3(settings).command(), str(flink_options(beside)), str(flink_environment(beside))]
    assert len(secrets) == 2
    assert not [secret for secret in secrets if any(secret in text for text in shown)]


def test_flink_uses_a_store_that_is_asked_for_and_not_one_that_was_there_before(settings: StackSettings) -> None:
    """Catch a Flink that goes to this store for the buckets of AWS because its keys are still in the folder."""
    s3(settings).prepare()
    assert flink_options(settings) == {}
    assert flink_environment(settings) == {}
    assert [part.uses for part in components_of(settings, ["flink"])] == [(), ()]
    assert [part.uses for part in components_of(settings, ["s3", "flink"])][1:] == [("s3",), ("s3",)]


def test_flink_uses_what_runs_beside_it_without_being_named_again(settings: StackSettings) -> None:
    server, supervisor = s3(settings), Supervisor(settings.folder, die_with_parent=True)
    waiting = ["sleep", "600"]
    supervisor.up([replace(server, command=lambda: waiting, not_ready_because=lambda: None)])
    try:
        found = settled(settings, supervisor)
    finally:
        supervisor.down()
    assert flink_options(found)["s3.endpoint"] == settings.s3_url
    assert not found.flink_metrics


@pytest.mark.parametrize("name", ["s3", "redis"])
def test_a_part_that_is_not_made_is_said_with_the_command_that_makes_it(
    settings: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("REASONER_TOOLS", str(tmp_path / "tools"))
    (component,) = components_of(settings, [name])
    with pytest.raises(CommandFailed, match=f"run `reasoner setup {name}`"):
        component.command()
