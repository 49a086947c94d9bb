"""Job of error patterns alone, with the uids of the whole job, so that savepoints fit both."""

from collections.abc import Sequence

from jobs.insights import config_from, run_job


def main(arguments: Sequence[str] | None = None) -> None:
    config = config_from(
        arguments, "top error patterns and insights about new ones, from OTLP logs and exceptions of spans"
    )
    run_job("error-patterns", config)


if __name__ == "__main__":
    main()
