# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# Chromium is Debian's; what drives it has an environment of its own, so that it constrains no version of the job.
setup_browser() {
  setup_uv
  local mark folder=$TOOLS/browser
  if ! command -v chromium >/dev/null; then
    can_apt || fail "Chromium is needed for the test of the dashboard, found none. Install it with \`sudo apt-get install chromium\`, then run the same command again."
    : >"$LOGS/apt.log"
    apt-get update >>"$LOGS/apt.log" 2>&1 || true
    apt_install chromium || fail "apt-get could not install Chromium: $(grep -m 1 '^E:' "$LOGS/apt.log" || printf 'see .tools/log/apt.log')"
  fi
  mark=$(fingerprint browser "$(python_version "$PYTHON")" "$ROOT/locks/browser.txt")
  is_fresh browser "$mark" "$folder/bin/playwright" && return 0
  say "installing Playwright, which drives Chromium (50 MB)"
  rm -f "$STAMPS/browser"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$folder" &&
    uv pip sync --quiet --python "$folder" --require-hashes --only-binary :all: "$ROOT/locks/browser.txt" ||
    fail "Playwright could not be installed. $NETWORK_HINT"
  stamp browser "$mark"
}
