# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_browser() {
  command -v chromium >/dev/null || apt_packages chromium
  own_environment browser "$ROOT/locks/browser.txt" bin/playwright "Playwright, which drives Chromium (50 MB)"
}
