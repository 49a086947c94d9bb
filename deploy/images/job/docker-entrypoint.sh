#!/usr/bin/env bash
# jobmanager|taskmanager|standalone-job ARGUMENT...: a process of Flink in the foreground, with its arguments.
# Anything else is a command, such as `reasoner topics create`, or the scripts that the Kubernetes Operator starts.
set -euo pipefail

# numba uses a cache only in a folder that it can write to, and the root may be read-only: 3 MB.
mkdir -p "$NUMBA_CACHE_DIR"
cp -r --no-clobber /opt/reasoner/kernels/. "$NUMBA_CACHE_DIR"
export FLINK_LOG_DIR=${FLINK_LOG_DIR:-/tmp/log}
mkdir -p "$FLINK_LOG_DIR"

case ${1:-} in
  jobmanager | taskmanager | standalone-job)
    process=$1
    shift
    exec "$FLINK_HOME/bin/$process.sh" start-foreground "$@"
    ;;
esac
exec "$@"
