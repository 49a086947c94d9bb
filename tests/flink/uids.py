"""Prints name and uid of every operator of each job as JSON lines: `python -m tests.flink.uids FOLDER`.

A program of its own because PyFlink keeps a JVM as long as its process lives.
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
            found = {"job": name, "name": node.getOperatorName(), "uid": node.getTransformationUID()}
            sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
