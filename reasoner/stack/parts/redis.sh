# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
find_redis() { command -v redis-server || command -v redis-check-rdb; }

# Debian's redis-tools has the program of the server, which acts by the name it is called with. The package redis-server
# adds a service that would start.
setup_redis() {
  [[ -x $TOOLS/redis/redis-server ]] && return 0
  if ! find_redis >/dev/null && can_apt; then
    say "installing by apt: redis-tools"
    { apt-get -o DPkg::Lock::Timeout=600 update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends redis-tools; } >>"$LOGS/apt.log" 2>&1 || true
  fi
  find_redis >/dev/null || fail "Redis is missing on this machine. Install it (Debian, Ubuntu: apt-get install redis-tools), then run the same command again."
  mkdir -p "$TOOLS/redis"
  ln -sfn "$(find_redis)" "$TOOLS/redis/redis-server"
}
