# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# Alertmanager with amtool. Built, because Debian's program reads its templates from /usr/share and ends without them.
setup_alertmanager() {
  local mark from=$HERE/go/alertmanager folder=$TOOLS/alertmanager
  mark=$(fingerprint alertmanager "$from/go.mod" "$from/go.sum")
  is_fresh alertmanager "$mark" "$folder"/{alertmanager,amtool} && return 0
  say "building Alertmanager (the first time 1 to 2 minutes)"
  build_go alertmanager "$from" "$folder" github.com/prometheus/alertmanager/cmd/{alertmanager,amtool}
  stamp alertmanager "$mark"
}
