# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# The parser of Docker Compose as a program, for tests/unit/deploy/compose.
setup_compose-check() {
  local mark from=$ROOT/tests/deploy/compose/check
  mark=$(fingerprint compose-check "$from/main.go" "$from/go.mod" "$from/go.sum")
  is_fresh compose-check "$mark" "$TOOLS/compose-check/compose-check" && return 0
  say "building the check of docker-compose.yml"
  build_go compose-check "$from" "$TOOLS/compose-check" .
  stamp compose-check "$mark"
}
