# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
find_redis() { command -v redis-server || command -v redis-check-rdb; }

# Debian's redis-tools has the program of the server, which acts by the name it is called with. The package redis-server
# adds a service that would start.
setup_redis() {
  [[ -x $TOOLS/redis/redis-server ]] && return 0
  find_redis >/dev/null || apt_packages redis-tools
  mkdir -p "$TOOLS/redis"
  ln -sfn "$(find_redis)" "$TOOLS/redis/redis-server"
}
