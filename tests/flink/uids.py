"""Prints name and uid of every operator of the whole job as JSON lines: `python -m tests.flink.uids FOLDER`.

A program of its own because PyFlink keeps a JVM as long as its process lives.
"""

import json
import sys
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment

from jobs.config import JobConfig
from jobs.graph import stages
from jobs.insights import build, flink_configuration
from reasoner import lake
from reasoner.job_process import lake_in


def main(folder: Path) -> None:
    config = JobConfig.model_validate({"lake": lake_in(folder)})
    lake.create_tables(config.lake)
    environment = StreamExecutionEnvironment.get_execution_environment(flink_configuration(config))
    build(environment, config, stages(config.graph()))
    nodes = environment._j_stream_execution_environment.getStreamGraph(False).getStreamNodes()
    for node in nodes.toArray():
        sys.stdout.write(json.dumps({"name": node.getOperatorName(), "uid": node.getTransformationUID()}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
