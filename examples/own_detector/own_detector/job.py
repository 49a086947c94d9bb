"""The shipped job with the error budget detector: `python -m own_detector.job --config FILE`."""

from jobs.graph import stages
from jobs.insights import parsed, run
from own_detector.error_budget import BudgetConfig, stage

if __name__ == "__main__":
    _, config = parsed()
    graph = config.graph()
    run(config, (*stages(graph), stage(BudgetConfig(), graph.emission)))
