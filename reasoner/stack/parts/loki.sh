# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# Loki, for the checks of deploy/observability/loki.yaml: a program of its own (AGPL-3.0), as it is published.
# `go install` refuses a module with replace lines, so go.mod repeats those of Loki's.
setup_loki() {
  local mark from=$ROOT/tests/deploy/collector/loki
  mark=$(fingerprint loki "$from/go.mod" "$from/go.sum")
  is_fresh loki "$mark" "$TOOLS/loki/loki" && return 0
  say "building Loki (the first time 5 to 15 minutes)"
  build_go loki "$from" "$TOOLS/loki" github.com/grafana/loki/v3/cmd/loki
  stamp loki "$mark"
}
