"""Compile every kernel of the job into NUMBA_CACHE_DIR: half a minute of a shop's telemetry goes through the graph.

Ends with exit code 1 and the names of the kernels that nothing has called, so that none is missing in the image.
"""

import sys
import tempfile
from itertools import chain
from pathlib import Path
from types import ModuleType

from numba.core.dispatcher import Dispatcher

from jobs.settings import Detection, JobConfig
from reasoner.runs.local_run import LocalRun
from reasoner.traffic.shop import messages
from state_schemas.contracts.settings import Lake

START_MS = 1_700_000_000_000
# The shipped rules test no name of a span.
RULE = """
id: every-span
version: 1
title: a span with a name
by: trace
within: 1m
steps:
  - name: first
    span: {name|contains: /}
  - name: second
    span: {name|contains: /}
"""


def kernels(modules: list[ModuleType]) -> dict[str, Dispatcher]:
    """Return the kernels of the modules by their full names."""
    found = chain.from_iterable(vars(module).values() for module in modules)
    return {f"{k.__module__}.{k.__name__}": k for k in found if isinstance(k, Dispatcher)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "every-span.yaml")
        rules.write_text(RULE)
        detection = Detection(rules=rules, shipped_rules=True)
        lake = Lake(uri="jdbc:sqlite:/nowhere", warehouse="file:///nowhere")
        run = LocalRun(JobConfig(lake=lake, detection=detection).graph())
    for _ in run.run(messages(1, START_MS, 30_000, None)):
        pass
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("udfs.")]
    cold = sorted(name for name, kernel in kernels(ours).items() if not kernel.signatures)
    if cold:
        sys.exit(f"not compiled, because nothing has called them: {', '.join(cold)}")
    print(f"{len(kernels(ours))} kernels compiled")


if __name__ == "__main__":
    main()
