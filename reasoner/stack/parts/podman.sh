# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# What `make test-compose` builds and runs containers with. No service is started: Podman has none.
setup_podman() {
  setup_uv
  local mark folder=$TOOLS/podman name missing=()
  for name in podman buildah runc netavark aardvark-dns iptables debootstrap catatonit; do
    dpkg --status "$name" >/dev/null 2>&1 || missing+=("$name")
  done
  if ((${#missing[@]})); then
    can_apt || fail "missing on this machine: ${missing[*]}. Install them with \`sudo apt-get install --no-install-recommends ${missing[*]}\`, then run the same command again."
    : >"$LOGS/apt.log"
    apt-get -o DPkg::Lock::Timeout=600 update >>"$LOGS/apt.log" 2>&1 || true # An old list may be sufficient.
    apt_install "${missing[@]}" || fail "apt-get could not install ${missing[*]}: $(grep -m 1 '^E:' "$LOGS/apt.log" || printf 'see %s' "$LOGS/apt.log")"
  fi
  mark=$(fingerprint podman "$(python_version "$PYTHON")" "$ROOT/locks/podman.txt")
  is_fresh podman "$mark" "$folder/bin/podman-compose" && return 0
  say "installing podman-compose"
  rm -f "$STAMPS/podman"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$folder" &&
    uv pip sync --quiet --python "$folder" --require-hashes "$ROOT/locks/podman.txt" ||
    fail "podman-compose could not be installed. $NETWORK_HINT"
  stamp podman "$mark"
}
