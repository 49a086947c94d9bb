#!/usr/bin/env bash
# KAFKA_SOME_NAME becomes the property some.name, and the data folder is formatted once with CLUSTER_ID: as in the public
# image.
set -euo pipefail
env | sed -n 's/^KAFKA_\([A-Z_]*\)=\(.*\)/\1=\2/p' | grep -v -E '^(HEAP_OPTS|OPTS)=' |
  awk -F= '{ name = tolower($1); gsub("_", ".", name); sub("^[^=]*=", ""); print name "=" $0 }' >/tmp/server.properties
java=(java -cp '/opt/kafka/libs/*')
"${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t "$CLUSTER_ID" -c /tmp/server.properties
# shellcheck disable=SC2086 # options are words
exec "${java[@]}" ${KAFKA_HEAP_OPTS:-} kafka.Kafka /tmp/server.properties
