# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# A balancer of TCP connections for the gateways of deploy/collector. Unpacked, not installed: the package would start a
# service. The one on PATH is taken where there is one.
setup_haproxy() {
  local mark folder=$TOOLS/haproxy packages=(haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1)
  mark=$(fingerprint haproxy "${packages[@]}")
  is_fresh haproxy "$mark" "$folder/haproxy" && return 0
  say "unpacking HAProxy (3 MB)"
  rm -rf "$folder"
  mkdir -p "$folder/packages"
  if command -v haproxy >/dev/null; then
    ln -s "$(command -v haproxy)" "$folder/haproxy"
  else
    (
      cd "$folder/packages"
      apt-get download "${packages[@]}"
      for package in *.deb; do dpkg -x "$package" ..; done
    ) >"$LOGS/haproxy.log" 2>&1 || fail "HAProxy could not be fetched: $(grep -m 1 '^E:' "$LOGS/haproxy.log" || printf 'see .tools/log/haproxy.log'). Run \`apt-get update\`, or install HAProxy, then run the same command again."
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$(echo "$folder"/usr/lib/*-linux-gnu)" "$folder/usr/sbin/haproxy" >"$folder/haproxy"
    chmod +x "$folder/haproxy"
  fi
  "$folder/haproxy" -v >>"$LOGS/haproxy.log" 2>&1 || fail "HAProxy does not start: $(tail -n 1 "$LOGS/haproxy.log"). Install it (Debian, Ubuntu: apt-get install haproxy), then run the same command again."
  stamp haproxy "$mark"
}
