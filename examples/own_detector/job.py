"""The shipped job with the error budget detector: `python -m examples.own_detector.job --config FILE`."""

from examples.own_detector.error_budget import BudgetConfig, stage
from jobs.graph import stages
from jobs.insights import parsed, run

if __name__ == "__main__":
    _, config = parsed()
    graph = config.graph()
    run(config, (*stages(graph), stage(BudgetConfig(), graph.emission)))
