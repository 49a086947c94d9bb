"""The shipped job with a further sink: `python -m examples.own_sink.job --config FILE`."""

from examples.own_sink.insight_lines import INSERT
from jobs.graph import stages
from jobs.insights import parsed, run
from jobs.sinks import SHIPPED

if __name__ == "__main__":
    _, config = parsed()
    run(config, stages(config.graph()), (*SHIPPED, INSERT))
