#!/usr/bin/env bash
# Makes a CA and the certificates of gateway and agents, where they are missing, with openssl.
#
#   certificates.sh FOLDER [NAME]...     NAME: of the gateway, as the agents call it; localhost is always one of them
#
# ca.key signs further certificates and belongs on no host. An agent gets ca.crt, agent.crt and agent.key; a gateway
# ca.crt, gateway.crt and gateway.key. A team that has a CA of its own takes its certificates instead: the agent's for
# client authentication, the gateway's for both, because gateways also send to each other.
set -euo pipefail
umask 077 # keys are for their owner alone

folder=${1:?usage: certificates.sh FOLDER [NAME]...}
shift
names=DNS:localhost,IP:127.0.0.1
for name in "$@"; do names+=,DNS:$name; done
mkdir -p "$folder"
cd "$folder"
exec 9>lock
flock 9 # agent and gateway of the stack start together

[[ -f ca.crt ]] || openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -keyout ca.key -out ca.crt \
  -subj /CN=collector-ca -addext basicConstraints=critical,CA:TRUE \
  -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null

certify() { # certify NAME USAGE SUBJECT-ALTERNATIVE-NAMES
  [[ -f $1.crt ]] && return 0
  openssl req -newkey rsa:3072 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 397 -out "$1.part" -extfile <(
    printf '%s\n' basicConstraints=CA:FALSE keyUsage=critical,digitalSignature,keyEncipherment
    printf '%s\n' "extendedKeyUsage=$2" "subjectAltName=$3"
  ) 2>/dev/null
  mv "$1.part" "$1.crt" # complete or not there
  rm "$1.csr"
}
certify gateway serverAuth,clientAuth "$names"
certify agent clientAuth DNS:agent
