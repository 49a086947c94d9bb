# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
# What `make test-compose` builds and runs containers with. No service is started: Podman has none.
setup_podman() {
  apt_packages podman buildah runc netavark aardvark-dns iptables debootstrap catatonit
  own_environment podman "$ROOT/locks/podman.txt" bin/podman-compose podman-compose
}
