# shellcheck shell=bash disable=SC2154 # variables and functions of setup.sh, which sources this file
setup_docs() { own_environment docs "$ROOT/locks/docs.txt" bin/mkdocs "the site generator"; }
