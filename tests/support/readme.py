"""Commands of README, which tests run as they stand there."""

import re

from tests.tidy.rules import ROOT


def blocks_of(section: str) -> list[str]:
    """Return the blocks of shell commands of a section: the fenced ones without a language."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in fenced if not language]


def own_telemetry(kafka: str, postgres: str, flink: str) -> str:
    """Return the commands of "On your own telemetry" for a stack that is up at these addresses (host:port)."""
    blocks = blocks_of("On your own telemetry")
    assert len(blocks) == 2, f"found {len(blocks)} blocks of commands, expected that of the start and that of reading"
    done = ("make setup", "export PATH", "reasoner stack up", "reasoner insights tail")  # the last one does not end
    return (
        "\n".join(line for line in "".join(blocks).splitlines() if not line.startswith(done))
        .replace("127.0.0.1:5433", postgres)
        .replace("127.0.0.1:8081", flink)
        .replace("lake:\n", f"kafka: {{bootstrap_servers: '{kafka}'}}\nlake:\n")
    )
