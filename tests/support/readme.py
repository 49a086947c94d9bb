"""Blocks of README's section "On your own telemetry", as they stand there."""

import re

from tests.tidy.rules import ROOT


def _blocks(language: str) -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## On your own telemetry")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [text for found, text in fenced if found == language]


def command_blocks() -> tuple[str, str]:
    """Return the commands that start a job, and those that read its results and stop it."""
    blocks = _blocks("")
    assert len(blocks) == 2, f"found {len(blocks)} blocks of commands, expected that of the start and that of reading"
    return blocks[0], blocks[1]


def collector_block() -> str:
    """Return the part of the Collector's configuration: its batches and its exporter."""
    (block,) = _blocks("yaml")
    return block
