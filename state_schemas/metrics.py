"""Names of everything the job counts. Flink shows them per step in its REST API and dashboard."""

from typing import Literal

MetricName = Literal[
    # Folds. Records are spans, log records or metric points.
    "records_folded_total",  # accepted, late ones included
    "records_late_total",  # event time older than the Kafka timestamp - lateness: in the roll-ups, not in detection
    "records_rejected_total",  # in insight_rejected, by reason; the counters below split it
    "records_future_total",  # of these: beyond the Kafka timestamp + future_max_ms
    "messages_rejected_total",  # whole messages that could not be read
    # Pre-merge.
    "services_overflowed_total",  # service names folded into `other`: raise services_max or mend the names
    "envs_overflowed_total",  # environment names folded into `other`: raise envs_max or mend the names
    # Keyed machines.
    "names_overflowed_total",  # hosts or operations of a window folded into `other`: raise hosts_max, operations_max
    "records_behind_total",  # accepted but behind the watermark (an idle partition woke): treated as late
    "states_forgotten_total",  # idle keys whose state was dropped
    "states_reset_total",  # states written under other parameters and started afresh
    "insights_emitted_total",  # revisions of insights, all kinds
]
