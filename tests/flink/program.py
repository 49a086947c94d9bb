"""Program of the tests: prints the operators of each job, then runs one: `python -m tests.flink.program --config FILE`.

It is a separate process because PyFlink keeps a JVM until the process ends. It prints name and uid of every operator as
JSON lines. The job that it runs is the shipped one with the detector and the sink of `examples`.
"""

import json
import sys

from pyflink.datastream import StreamExecutionEnvironment

from examples.own_sink.insight_lines import INSERT
from jobs.graph import JOBS
from jobs.insights import build, flink_configuration, parsed, run
from jobs.settings import JobConfig
from jobs.sinks import SHIPPED
from tests.flink.graph import stages_with_budget


def print_uids(config: JobConfig) -> None:
    for name, job in JOBS.items():
        environment = StreamExecutionEnvironment.get_execution_environment(flink_configuration(config))
        # The rules of the tests have relations, which the job of rules alone refuses.
        graph = job.stages(job.default_config if job.reads_insights else config.graph())
        build(environment, config, graph, unused=job.unused, reads_insights=job.reads_insights)
        nodes = environment._j_stream_execution_environment.getStreamGraph(False).getStreamNodes()
        for node in nodes.toArray():
            operator = {"job": name, "name": node.getOperatorName(), "uid": node.getTransformationUID()}
            sys.stdout.write(json.dumps(operator) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, settings = parsed()
    print_uids(settings)
    run(settings, stages_with_budget(settings.graph()), (*SHIPPED, INSERT))
