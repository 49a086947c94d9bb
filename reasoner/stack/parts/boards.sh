# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# An environment of its own for the program that writes the boards: nothing else needs Grafana's types.
setup_boards() {
  setup_uv
  local mark folder=$TOOLS/boards
  mark=$(fingerprint boards "$(python_version "$PYTHON")" "$ROOT/locks/boards.txt")
  is_fresh boards "$mark" "$folder/bin/python" && return 0
  say "installing Grafana's types for the boards"
  rm -f "$STAMPS/boards"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$folder" &&
    uv pip sync --quiet --python "$folder" --require-hashes --only-binary :all: "$ROOT/locks/boards.txt" ||
    fail "Grafana's types could not be installed. $NETWORK_HINT"
  stamp boards "$mark"
}
