# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# A Kubernetes API server with what it needs, and kubectl, for `make test-k8s`: 700 MB of sources and 7 to 15 minutes.
setup_kubernetes() {
  local mark version=v1.36.3 from=$ROOT/tests/deploy/k8s/cluster named=k8s.io/component-base/version
  # Gives the processes of a test the files of a pod. Where it is missing, the test that needs it says so.
  command -v bwrap >/dev/null || ! can_apt || apt_install bubblewrap || say "apt-get could not install bubblewrap"
  mark=$(fingerprint kubernetes "$version" "$from/go.mod" "$from/go.sum" "$from"/*/main.go)
  is_fresh kubernetes "$mark" "$TOOLS/kubernetes"/{etcd,kube-apiserver,kube-controller-manager,kubectl} && return 0
  say "building etcd, kube-apiserver, kube-controller-manager and kubectl (the first time 7 to 15 minutes)"
  # As Kubernetes builds them: clients ask for the version.
  LDFLAGS="-X $named.gitVersion=$version -X $named.gitMajor=1 -X $named.gitMinor=36" build_go kubernetes "$from" "$TOOLS/kubernetes" ./...
  stamp kubernetes "$mark"
}
