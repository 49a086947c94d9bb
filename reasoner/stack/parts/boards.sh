# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_boards() { own_environment boards "$ROOT/locks/boards.txt" bin/python "Grafana's types for the boards"; }
