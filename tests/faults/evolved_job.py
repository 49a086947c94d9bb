"""The shipped job with an additional machine and an additional exactly-once sink, as a later release may have them."""

from jobs.graph import stages
from jobs.insights import parsed, run
from jobs.sinks import SHIPPED
from tests.faults.tally import INSERT, STAGE

if __name__ == "__main__":
    _, config = parsed(None)
    run(config, (*stages(config.graph()), STAGE), (*SHIPPED, INSERT))
