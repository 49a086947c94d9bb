"""The shipped job with the error budget detector: `python -m examples.own_detector.job --config FILE`."""

from examples.own_detector.error_budget import BudgetConfig, stage
from jobs.graph import stages
from jobs.insights import config_from, run

if __name__ == "__main__":
    config = config_from(None, "insights, and services without an error budget")
    run(config, (*stages(config.graph()), stage(BudgetConfig(emission=config.graph().latency.emission))))
