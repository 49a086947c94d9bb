"""Job of latency alone: the roll-ups and LatencySpike, with the uids of the whole job, so that savepoints fit both."""

from collections.abc import Sequence

from jobs.insights import config_from, run_job


def main(arguments: Sequence[str] | None = None) -> None:
    run_job("latency-spikes", config_from(arguments, "latency roll-ups and spikes from OTLP traces"))


if __name__ == "__main__":
    main()
