"""Latency alone: the roll-ups and LatencySpike, with the uids of the whole job, so that savepoints fit both."""

from collections.abc import Sequence

from jobs.graph import latency_stages
from jobs.insights import config_from, run


def main(arguments: Sequence[str] | None = None) -> None:
    config = config_from(arguments, "latency roll-ups and spikes from OTLP traces")
    run(config, latency_stages(config.graph()))


if __name__ == "__main__":
    main()
