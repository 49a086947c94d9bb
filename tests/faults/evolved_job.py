"""The shipped job with one machine and one exactly-once sink more, as a later release would have them."""

from jobs.graph import stages
from jobs.insights import config_from, run
from jobs.sinks import SHIPPED
from tests.faults.tally import INSERT, STAGE

if __name__ == "__main__":
    config = config_from(None, "insights and tallies")
    run(config, (*stages(config.graph()), STAGE), (*SHIPPED, INSERT))
