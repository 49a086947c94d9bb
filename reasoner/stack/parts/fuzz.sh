# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_fuzz() {
  setup_python
  "$VENV/bin/python" -c 'import atheris' 2>/dev/null && return 0
  say "installing the fuzzer"
  adopt_pip_settings
  uv pip install --quiet --require-hashes -r "$ROOT/locks/fuzz.txt" || fail "the fuzzer could not be installed. $NETWORK_HINT"
}
