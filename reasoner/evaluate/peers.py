"""Peers that are measured in the same run as ours."""

import logging
from collections.abc import Sequence
from typing import Any

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig


def drain3_miner() -> Any:
    """A Drain3 miner with the settings that it comes with, which keeps nothing on disk."""
    logging.getLogger("drain3").setLevel(logging.ERROR)
    return TemplateMiner(config=TemplateMinerConfig())


def drain3_ids(lines: Sequence[str]) -> list[int]:
    """The cluster that Drain3 gives to each line when it comes."""
    miner = drain3_miner()
    return [int(miner.add_log_message(line)["cluster_id"]) for line in lines]
