"""Error patterns alone, with the uids of the whole job, so that savepoints fit both."""

from collections.abc import Sequence

from jobs.graph import pattern_stages
from jobs.insights import config_from, run


def main(arguments: Sequence[str] | None = None) -> None:
    config = config_from(
        arguments, "top error patterns and what is new among them, from OTLP logs and exceptions of spans"
    )
    run(config, pattern_stages(config.graph()))


if __name__ == "__main__":
    main()
