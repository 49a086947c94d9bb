"""Program that prints name and uid of every operator of each job as JSON lines: `python -m tests.flink.uids FOLDER`.

It is a separate process because PyFlink keeps a JVM until the process ends.
"""

import json
import sys
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment

from jobs.graph import JOBS
from jobs.insights import build, flink_configuration
from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.runs.job_process import lake_in


def main(folder: Path) -> None:
    config = JobConfig.model_validate({"lake": lake_in(folder)})
    lake.create_tables(config.lake)
    for name, job in JOBS.items():
        environment = StreamExecutionEnvironment.get_execution_environment(flink_configuration(config))
        build(environment, config, job.stages(config.graph()), unused=job.unused)
        nodes = environment._j_stream_execution_environment.getStreamGraph(False).getStreamNodes()
        for node in nodes.toArray():
            operator = {"job": name, "name": node.getOperatorName(), "uid": node.getTransformationUID()}
            sys.stdout.write(json.dumps(operator) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
