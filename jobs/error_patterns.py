"""The job of log patterns alone: `python -m jobs.insights --job error-patterns`."""

import sys

from jobs.insights import main

if __name__ == "__main__":
    main(["--job", "error-patterns", *sys.argv[1:]])
