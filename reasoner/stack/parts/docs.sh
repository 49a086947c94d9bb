# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# An environment of its own, so that the generator's dependencies constrain no version of the job.
setup_docs() {
  setup_uv
  local mark folder=$TOOLS/docs
  mark=$(fingerprint docs "$(python_version "$PYTHON")" "$ROOT/locks/docs.txt")
  is_fresh docs "$mark" "$folder/bin/mkdocs" && return 0
  say "installing the site generator"
  rm -f "$STAMPS/docs"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$folder" &&
    uv pip sync --quiet --python "$folder" --require-hashes --only-binary :all: "$ROOT/locks/docs.txt" ||
    fail "the site generator could not be installed. $NETWORK_HINT"
  stamp docs "$mark"
}
