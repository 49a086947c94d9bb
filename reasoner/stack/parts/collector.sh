# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# The builder writes the sources of the components in builder.yaml. Versions and hashes are those of the committed go.mod
# and go.sum: the builder's own way to them stops at a module for Windows that the proxy does not serve.
# remove_all_sd: without the clients of 25 clouds that Prometheus' service discovery brings, none of which is used.
setup_collector() {
  local mark go from=$ROOT/deploy/collector sources=$TOOLS/collector/build version=v0.158.0 tags=remove_all_sd
  mark=$(fingerprint collector "$version" "$tags" "$from/builder.yaml" "$from/go.mod" "$from/go.sum")
  is_fresh collector "$mark" "$TOOLS/collector/otelcol" && return 0
  go=$(find_go "$from/go.mod" "the Collector")
  say "building the Collector (the first time 4 to 10 minutes)"
  rm -rf "$sources"
  mkdir -p "$sources"
  (
    export GOBIN=$TOOLS/collector GOFLAGS=-buildvcs=false GOTOOLCHAIN=local PATH=${go%/*}:$PATH
    cd "$sources" &&
      go install "go.opentelemetry.io/collector/cmd/builder@$version" &&
      "$GOBIN/builder" --config "$from/builder.yaml" --skip-get-modules --skip-compilation &&
      cp "$from/go.mod" "$from/go.sum" . &&
      go build -mod=readonly -trimpath -tags "$tags" -ldflags='-s -w' -o "$GOBIN/otelcol" .
  ) >"$LOGS/collector.log" 2>&1 || fail "the Collector could not be built: $(tail -n 1 "$LOGS/collector.log") (full log: .tools/log/collector.log). Check the network and GOPROXY, then run \`make collector\` again."
  stamp collector "$mark"
}
