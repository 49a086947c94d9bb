"""Stages of the tests: the shipped ones and that of `examples/own_detector`."""

from collections.abc import Sequence

from own_detector.error_budget import BudgetConfig, stage

from jobs.graph import GraphConfig, stages
from operators.machine import Stage


def stages_with_budget(config: GraphConfig) -> Sequence[Stage]:
    return (*stages(config), stage(BudgetConfig(), config.emission))
