#!/usr/bin/env bash
# POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD_FILE and POSTGRES_HOST_AUTH_METHOD as in the public image: they hold for an
# empty data folder.
set -euo pipefail
if [[ ! -f $PGDATA/PG_VERSION ]]; then
  auth=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  initdb --username="$POSTGRES_USER" --auth="$auth" --encoding=UTF8 --locale=C.UTF-8 \
    ${POSTGRES_PASSWORD_FILE:+--pwfile="$POSTGRES_PASSWORD_FILE"}
  echo "host all all all $auth" >>"$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -j postgres
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
