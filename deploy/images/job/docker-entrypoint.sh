#!/usr/bin/env bash
# jobmanager|taskmanager|standalone-job ARGUMENT...: a process of Flink in the foreground, with its arguments.
# Anything else is a command, such as `reasoner topics create`, or a script that the Kubernetes Operator starts.
#
# FLINK_USE         session or application: the settings of flink-conf for it; else those of FLINK_CONF_DIR
# FLINK_PROPERTIES  lines `key: value` over them
# JOB_ID            of standalone-job: it goes on from the newest checkpoint or savepoint of this id, where there is one
set -euo pipefail

# numba uses a cache only in a folder that it can write to, and the root may be read-only: 3 MB.
mkdir -p "$NUMBA_CACHE_DIR"
cp -r --no-clobber /opt/reasoner/kernels/. "$NUMBA_CACHE_DIR"
export FLINK_LOG_DIR=${FLINK_LOG_DIR:-/tmp/log}
mkdir -p "$FLINK_LOG_DIR"
[[ -z ${FLINK_USE:-} ]] || export FLINK_CONF_DIR=/opt/reasoner/conf/$FLINK_USE

case ${1:-} in
  jobmanager | taskmanager | standalone-job) ;;
  *) exec "$@" ;;
esac

process=$1 options=() rocksdb=
shift
while IFS=: read -r key value; do
  [[ -z $key || $key == '#'* ]] || options+=(-D "$key=${value# }")
  [[ $key != state.backend.rocksdb.localdir ]] || rocksdb=${value# }
done <<<"${FLINK_PROPERTIES:-}"
# A TaskManager that was killed leaves its copies of state, which nobody reads: they would fill a volume.
[[ $process != taskmanager || -z $rocksdb ]] || rm -rf "$rocksdb"
# Flink's own file says localhost, where the other containers would look for it in themselves.
[[ $process != taskmanager ]] || options+=(-D "taskmanager.host=$(hostname --ip-address | cut -d ' ' -f 1)")
if [[ $process == standalone-job && -n ${JOB_ID:-} ]]; then
  options+=(--job-id "$JOB_ID")
  mapfile -t restored < <(python /opt/reasoner/newest_point.py "$@")
  wait "$!" # where the store does not answer, the container is started again, and not the job without its state
  options+=("${restored[@]}")
fi
exec "$FLINK_HOME/bin/$process.sh" start-foreground "${options[@]}" "$@"
