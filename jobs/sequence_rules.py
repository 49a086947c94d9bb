"""The job of sequence rules alone: `python -m jobs.insights --job sequence-rules`.

It reads the topics of telemetry, and the insights of another job in `insight_out`, into which its matches go: give it a
`name` and a `kafka.group_id` of its own.
"""

import sys

from jobs.insights import main

if __name__ == "__main__":
    main(["--job", "sequence-rules", *sys.argv[1:]])
