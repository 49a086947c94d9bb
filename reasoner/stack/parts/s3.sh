# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# The server (versitygw) by Go, and the jars with which Flink reads and writes s3://, which FLINK_HOME gets as well.
setup_s3() {
  local mark from=$HERE/go/versitygw
  mark=$(fingerprint s3 "$from/go.mod" "$from/go.sum")
  if ! is_fresh s3 "$mark" "$TOOLS/s3/versitygw"; then # first, because it says when Go is missing
    say "building the S3 server (the first time 3 to 6 minutes)"
    build_go versitygw "$from" "$TOOLS/s3" github.com/versity/versitygw/cmd/versitygw
    stamp s3 "$mark"
  fi
  setup_jars s3 -DexcludeTransitive=true
  setup_flink
}
