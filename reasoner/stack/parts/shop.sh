# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_shop() {
  setup_uv
  local mark list=$ROOT/examples/own_services/requirements.txt
  mark=$(fingerprint shop "$(python_version "$PYTHON")" "$list")
  is_fresh shop "$mark" "$TOOLS/shop/bin/python" && return 0
  say "installing the OpenTelemetry SDK for the services (10 MB)"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$TOOLS/shop" &&
    uv pip install --quiet --python "$TOOLS/shop/bin/python" --require-hashes -r "$list" || fail "the packages of the services could not be installed. $NETWORK_HINT"
  stamp shop "$mark"
}
