# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# Prometheus with promtool: unpacked from the package of the distribution, not installed, so that no service starts. apt
# compares the package with the signed list of its repository. There is no list of our own, because the distribution
# replaces a version when it mends it, and the old one is gone then.
setup_prometheus() {
  local mark folder=$TOOLS/prometheus
  mark=$(fingerprint prometheus "$HERE/parts/prometheus.sh")
  is_fresh prometheus "$mark" "$folder"/{prometheus,promtool} && return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "Prometheus is taken from the packages of Debian or Ubuntu, and this machine has no apt-get or no dpkg-deb. Put the programs prometheus and promtool into $folder, or leave the component out."
  if can_apt && ! has_candidate prometheus; then apt_update; fi
  say "downloading Prometheus from the distribution (19 MB)"
  rm -rf "$folder" "$folder.part"
  mkdir -p "$folder.part"
  (cd "$folder.part" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb .) >"$LOGS/prometheus.log" 2>&1 ||
    fail "Prometheus could not be fetched: $(grep -m 1 '^E:' "$LOGS/prometheus.log" || tail -n 1 "$LOGS/prometheus.log"). Run \`apt-get update\` as root, then the same command again."
  mkdir "$folder"
  mv "$folder.part"/usr/bin/{prometheus,promtool} "$folder/"
  mv "$folder.part/usr/share/prometheus/web" "$folder/web" # its pages: Debian's program does not contain them
  rm -rf "$folder.part"
  stamp prometheus "$mark"
}
