"""The job of latency alone: `python -m jobs.insights --job latency-spikes`."""

import sys

from jobs.insights import main

if __name__ == "__main__":
    main(["--job", "latency-spikes", *sys.argv[1:]])
