"""Settings of the stack: flags precede variables, variables precede defaults, and one message has all faults."""

from inspect import signature
from pathlib import Path

import pytest

from reasoner.commands.stack import up
from reasoner.errors import WrongUse
from reasoner.stack.running import components_of
from reasoner.stack.settings import AUTO_PORT, FLAGS, StackSettings
from tests.tidy.rules import ROOT


def test_a_flag_goes_before_the_variable_and_the_variable_before_the_default() -> None:
    environ = {"REASONER_KAFKA_PORT": "10001", "REASONER_POSTGRES_PORT": "10002"}
    settings = StackSettings.load({"kafka_port": 10003, "postgres_port": None}, environ)
    assert (settings.kafka_port, settings.postgres_port, settings.flink_rest_port) == (10003, 10002, 8081)


def test_all_faults_come_in_one_message_with_value_limit_and_place() -> None:
    """Catch a check that stops at the first of three faults."""
    environ = {"REASONER_FLINK_SLOTS": "0", "REASONER_FLINK_TASKMANAGER_MEMORY": "lots"}
    with pytest.raises(WrongUse) as caught:
        StackSettings.load({"kafka_port": "70000"}, environ)
    text = str(caught.value)
    assert "kafka_port is '70000'" in text
    assert "expected at most 65535" in text
    assert "--kafka-port or REASONER_KAFKA_PORT" in text
    assert "flink_slots is '0'" in text
    assert "flink_taskmanager_memory is 'lots'" in text


def test_the_flags_that_messages_name_are_those_of_the_command() -> None:
    assert set(FLAGS) == set(signature(up).parameters) - {"components", "also"}
    with pytest.raises(WrongUse, match=r"change REASONER_FLINK_METRICS_PORT$"):
        StackSettings.load({}, {"REASONER_FLINK_METRICS_PORT": "-1"})
    with pytest.raises(WrongUse, match=r"change --s3-port or REASONER_S3_PORT$"):
        StackSettings.load({"s3_port": "-1"}, {})


def test_auto_ports_become_different_free_ports() -> None:
    settings = StackSettings().with_auto_ports()
    assert settings.kafka_port == AUTO_PORT
    resolved = settings.resolved()
    ports = [getattr(resolved, name) for name in StackSettings.model_fields if name.endswith("_port")]
    assert AUTO_PORT not in ports
    assert len(set(ports)) == len(ports) == 17
    assert max(ports) < 32_768, "the kernel gives such a port to a client before the server has bound it"


def test_the_ports_of_metrics_are_free_in_a_row_and_each_process_reserves_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catch a range of which the first port alone is free: another process has then no metrics."""
    monkeypatch.setattr("reasoner.stack.settings.is_port_free", lambda port: port % 8 < 4)
    settings = StackSettings(flink_taskmanagers=3, flink_metrics=True).with_auto_ports().resolved()
    first = settings.flink_metrics_port
    assert first % 8 == 0
    flink = components_of(settings, ["flink"])
    reserved = [{**part.ports, **part.counted_ports}["flink_metrics_port"] for part in flink]
    assert reserved == [first, first + 1, first + 2, first + 3]
    without = components_of(settings.model_copy(update={"flink_metrics": False}), ["flink"])
    assert not any("flink_metrics_port" in {**part.ports, **part.counted_ports} for part in without)


def test_auto_is_a_word_for_a_free_port() -> None:
    assert StackSettings.load({"kafka_port": "auto"}, {}).kafka_port == AUTO_PORT


def test_a_later_command_from_another_working_directory_finds_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert StackSettings.load({}, {}).folder == ROOT / ".run"
    assert StackSettings.load({"folder": "here"}, {}).folder == tmp_path / "here"
