"""A rule over two log lines, and lines of recordings that fulfil it."""

import json

POOL = """id: pool-then-timeout
version: 3
title: pool exhausted, then time-outs
by: service
within: 5m
steps:
  - {name: pool, log: {body|contains: pool exhausted}}
  - {name: timeout, log: {body|contains: timed out, severity: ERROR}, within: 1m}
"""
START_NS = 1_700_000_000_000_000_000


def line(service: str, at_s: int, body: str) -> str:
    """Return a line of a recording with one log record."""
    record = {"timeUnixNano": str(START_NS + at_s * 10**9), "severityNumber": 17, "body": {"stringValue": body}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]})
