#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml where they are missing, with openssl: passwords, the keys for S3, and the
# certificates of the Collector. What is there stays, but for certificates that end within a month: those are made anew.
#
# Use: deploy/compose/secrets.sh [NAME...]   names and addresses of this machine, for agents of other machines
set -euo pipefail
umask 077
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets
mkdir -p "$folder"

for name in postgres redis grafana; do
  file=$folder/${name}_password
  [[ -s $file ]] || printf %s "$(openssl rand -hex 24)" >"$file"
done
# The format of AWS's own tools, which all clients of S3 read.
file=$folder/s3_credentials
[[ -s $file ]] || printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
  "$(openssl rand -hex 10 | tr a-f A-F)" "$(openssl rand -hex 24)" >"$file"
bash "$folder/../../collector/certificates.sh" "$folder/certificates" gateway "$@"

# Users of the containers, each of which has another id, read the files, which are mounted one by one. On the machine only
# the owner of the folder comes to them.
chmod 700 "$folder"
chmod 755 "$folder/certificates"
find "$folder" -type f ! -name ca.key -exec chmod 444 {} +
echo "secrets: $folder"
