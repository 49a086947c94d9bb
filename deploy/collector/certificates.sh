#!/usr/bin/env bash
# Makes a CA and the certificates of gateway and agents with openssl: those that are missing, that end within 30 days, or
# that lack a name. The keys stay.
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
  local had="" name names=$3
  if [[ -f $1.crt ]]; then
    [[ -f ca.key ]] || return 0 # of another CA, or not the place where certificates are made
    had=$(openssl x509 -in "$1.crt" -noout -ext subjectAltName | tail -n 1 | tr -d ' ')
    names=${had//IPAddress:/IP:}
    for name in ${3//,/ }; do [[ ,$names, == *",$name,"* ]] || names+=,$name; done
    [[ $names != "${had//IPAddress:/IP:}" ]] || ! openssl x509 -in "$1.crt" -noout -checkend 2592000 >/dev/null || return 0
  fi
  [[ -f $1.key ]] || openssl genrsa -out "$1.key" 3072 2>/dev/null
  openssl req -new -key "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 397 -out "$1.part" -extfile <(
    printf '%s\n' basicConstraints=CA:FALSE keyUsage=critical,digitalSignature,keyEncipherment
    printf '%s\n' "extendedKeyUsage=$2" "subjectAltName=$names"
  ) 2>/dev/null
  mv "$1.part" "$1.crt" # complete or not there
  rm "$1.csr"
}
certify gateway serverAuth,clientAuth "$names"
certify agent clientAuth DNS:agent
