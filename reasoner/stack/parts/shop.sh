# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_shop() { own_environment shop "$ROOT/examples/own_services/requirements.txt" bin/python "the OpenTelemetry SDK for the services (10 MB)"; }
