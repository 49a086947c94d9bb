"""Blocks of README, which tests run as they stand there."""

import re

from tests.tidy.rules import ROOT

OWN_TELEMETRY = "On your own telemetry"


def blocks_of(section: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a section in a language; "" are commands."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]


def command_blocks() -> tuple[str, str]:
    """Return the commands that start a job, and those that read its results and stop it."""
    blocks = blocks_of(OWN_TELEMETRY)
    assert len(blocks) == 2, f"found {len(blocks)} blocks of commands, expected that of the start and that of reading"
    return blocks[0], blocks[1]


def collector_block() -> str:
    """Return the part of the Collector's configuration: its batches and its exporter."""
    (block,) = blocks_of(OWN_TELEMETRY, "yaml")
    return block


def own_telemetry(kafka: str, postgres: str, flink: str) -> str:
    """Return the commands of "On your own telemetry" for a stack that is up at these addresses (host:port)."""
    done = ("make setup", "export PATH", "reasoner stack up", "reasoner insights tail")  # the last one does not end
    return (
        "\n".join(line for line in "".join(command_blocks()).splitlines() if not line.startswith(done))
        .replace("127.0.0.1:5433", postgres)
        .replace("127.0.0.1:8081", flink)
        .replace("lake:\n", f"kafka: {{bootstrap_servers: '{kafka}'}}\nlake:\n")
    )
