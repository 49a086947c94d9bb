"""Other tools that are measured on the same input."""

import logging
from collections.abc import Sequence
from typing import Any

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig


def drain3_miner() -> Any:
    """Return a Drain3 miner with its default settings, which keeps nothing on disk."""
    logging.getLogger("drain3").setLevel(logging.ERROR)
    return TemplateMiner(config=TemplateMinerConfig())


def drain3_ids(lines: Sequence[str]) -> list[int]:
    """Return the cluster that Drain3 assigns to each line at the time it reads the line."""
    miner = drain3_miner()
    return [int(miner.add_log_message(line)["cluster_id"]) for line in lines]
