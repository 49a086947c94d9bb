#!/usr/bin/env bash
# Creates everything that the project needs in this checkout: `.venv` (Python), `.tools` (uv, JDK link, jars, FLINK_HOME).
# From an installed package, where `reasoner setup` calls it: the JDK link, jars and FLINK_HOME, in REASONER_TOOLS.
#
# Use: reasoner/stack/setup.sh            python (in a checkout only), kafka and flink
#      reasoner/stack/setup.sh PART...    of python, kafka, flink and the files of `parts`, each of which says what it is
# The last step of each part writes a stamp with the fingerprint of its inputs. So the next run continues an interrupted
# run, and a second run does nothing and needs no network. Settings: REASONER_PYTHON (interpreter), JAVA_HOME,
# REASONER_SETUP_APT=no (install no system package, only report the missing ones; so from an installed package always).
set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
if [[ -f $ROOT/locks/job.txt ]]; then # as `checkout` in reasoner/folders.py
  SETUP='make setup' TOOLS=$ROOT/.tools VENV=$ROOT/.venv PACKAGED=$VENV/bin/python
else
  SETUP='reasoner setup' TOOLS=${REASONER_TOOLS:?} VENV='' PACKAGED=${REASONER_PYTHON:?} REASONER_SETUP_APT=no
fi
readonly ROOT SETUP TOOLS VENV PACKAGED HERE=$ROOT/reasoner/stack # PACKAGED: the interpreter that has apache-flink
# Parts that need nothing but this package. All others are for a checkout: they read its locks, tests or examples.
readonly ANYWHERE=(s3 redis haproxy prometheus alertmanager)
readonly STAMPS=$TOOLS/stamps LOGS=$TOOLS/log
readonly NETWORK_HINT="Check the network, and the proxy, mirror and certificate settings of pip, uv and Maven; then run \`$SETUP\` again; finished parts are kept."
declare -Ar JARS_MB=([kafka]=45 [flink]=120 [s3]=95 [operator]=115)

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# --- stamps -----------------------------------------------------------------------------------------------------

# fingerprint WORD-OR-FILE...: one hash over the words and the contents of the files. The folder of the checkout is part
# of it because virtual environments and links contain absolute paths.
fingerprint() {
  local input
  for input in "$ROOT" "$@"; do
    if [[ -f $input ]]; then sha256sum <"$input"; else printf '%s\n' "$input"; fi
  done | sha256sum | cut -d ' ' -f 1
}

# is_fresh NAME FINGERPRINT PRODUCT...: succeeds if the stamp has this fingerprint and every product exists.
is_fresh() {
  local name=$1 expected=$2 product
  shift 2
  for product in "$@"; do [[ -e $product ]] || return 1; done
  [[ -f $STAMPS/$name && $(<"$STAMPS/$name") == "$expected" ]]
}

stamp() { # stamp NAME FINGERPRINT
  printf '%s\n' "$2" >"$STAMPS/$1.part"
  mv -f "$STAMPS/$1.part" "$STAMPS/$1"
}

# --- system packages --------------------------------------------------------------------------------------------

# The interpreter is run to get its version: the `python3.12` of a version manager may exist and not run.
python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

find_python() {
  local candidate
  for candidate in ${REASONER_PYTHON:+"$REASONER_PYTHON"} python3.11 python3.12 python3; do
    case $(python_version "$candidate") in
      3.11 | 3.12)
        "$candidate" -c 'import sys; print(sys.executable)'
        return 0
        ;;
    esac
  done
  return 1
}

java_major() { "$1/bin/java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1; }

find_java() {
  local found='' home
  found=$(command -v java || true)
  for home in "${JAVA_HOME:-}" "${found:+$(dirname "$(dirname "$(readlink -f "$found")")")}" /usr/lib/jvm/*; do
    [[ -n $home && -x $home/bin/java ]] || continue
    case $(java_major "$home") in
      17 | 21)
        printf '%s\n' "$home"
        return 0
        ;;
    esac
  done
  return 1
}

find_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

can_apt() { [[ ${REASONER_SETUP_APT:-yes} != no && $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; }

has_candidate() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }

jdk_package() {
  local name
  for name in openjdk-17-jre-headless openjdk-21-jre-headless; do
    has_candidate "$name" && printf '%s\n' "$name" && return 0
  done
  printf 'openjdk-17-jre-headless\n'
}

# Debian starts a PostgreSQL server on port 5432 when the package is installed. It is not needed: the stack runs its own
# server on another port. So the package is configured not to create it, during this installation only.
without_main_cluster() {
  local drop_in=/etc/postgresql-common/createcluster.d/metric-reasoner.conf status=0
  mkdir -p "${drop_in%/*}"
  printf 'create_main_cluster = false\n' >"$drop_in"
  "$@" || status=$?
  rm -f "$drop_in"
  return "$status"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@" >>"$LOGS/apt.log" 2>&1; }

apt_update() { # An old list may be sufficient; the installation fails if it is not.
  : >"$LOGS/apt.log"
  apt update || true
}

apt_install() { # apt_install PACKAGE...
  say "installing by apt: $*"
  without_main_cluster apt install -y --no-install-recommends "$@"
}

apt_packages() { # apt_packages PACKAGE...: installs those that are missing, or says which they are
  local name missing=()
  for name in "$@"; do dpkg --status "$name" >/dev/null 2>&1 || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  can_apt || fail "missing on this machine: ${missing[*]} (names of packages of Debian and Ubuntu). Install them, there with \`sudo apt-get install --no-install-recommends ${missing[*]}\`, then run the same command again."
  apt_update
  apt_install "${missing[@]}" || fail "apt-get could not install ${missing[*]}: $(grep -m 1 '^E:' "$LOGS/apt.log" || printf 'see %s' "$LOGS/apt.log")"
}

missing_packages() {
  find_java >/dev/null || jdk_package
  command -v mvn >/dev/null || printf 'maven\n'
  [[ -z $VENV || -x $TOOLS/uv/bin/uv ]] || "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv\n'
  find_postgres || printf 'postgresql\n'
}

# One message names everything that is missing, so that one more run is enough. The programs found are kept as links:
# the other parts use them, and a second run does not search for the interpreters again.
ensure_system() {
  local mark
  mark=$(fingerprint system "${REASONER_PYTHON:-}" "${JAVA_HOME:-}" "$HERE/setup.sh")
  if ! is_fresh system "$mark" "$TOOLS/python" "$TOOLS/java/bin/java"; then
    install_system
    ln -sfn "$PYTHON" "$TOOLS/python"
    ln -sfn "$(find_java)" "$TOOLS/java"
    stamp system "$mark"
  fi
  PYTHON=$(readlink "$TOOLS/python")
}

install_system() {
  PYTHON=$(find_python) || fail "Python 3.11 or 3.12 is needed, found $(python_version python3 | grep . || printf 'none'). Install one (Debian, Ubuntu: python3.11 or python3.12 with its -venv package) or name it with REASONER_PYTHON=/path/to/python3.12, then run \`$SETUP\` again."
  local missing=()
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  if can_apt; then
    apt_update
    mapfile -t missing < <(missing_packages)
    apt_install "${missing[@]}" || say "apt-get could not install all packages: $(grep -m 1 '^E:' "$LOGS/apt.log" || printf 'see .tools/log/apt.log')"
    mapfile -t missing < <(missing_packages)
  fi
  [[ ${missing[*]} != postgresql ]] || say "warning: PostgreSQL is missing, so \`reasoner stack up postgres\` and the tests with several processes will not run (Debian, Ubuntu: apt-get install postgresql)."
  [[ -z ${missing[*]} || ${missing[*]} == postgresql ]] || fail "missing on this machine: ${missing[*]}. Install them with \`sudo apt-get install ${missing[*]}\` (any JDK 17 or 21 and any Maven can be used), then run \`$SETUP\` again."
}

# --- Python -----------------------------------------------------------------------------------------------------

# uv reads neither the index nor the certificate setting of pip; a configuration for pip must be sufficient for both.
# (`pip config list`, because `get` of older versions does not read /etc/pip.conf.)
pip_setting() { "$TOOLS/uv/bin/python" -m pip config list 2>/dev/null | sed -n "s/^global\.$1='\(.*\)'\$/\1/p" | head -n 1; }

adopt_pip_settings() {
  local index cert
  index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting index-url)}}}
  [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
  cert=${SSL_CERT_FILE:-${PIP_CERT:-$(pip_setting cert)}}
  [[ -n $cert || ! -f /etc/ssl/certs/ca-certificates.crt ]] || cert=/etc/ssl/certs/ca-certificates.crt
  [[ -z $cert ]] || export SSL_CERT_FILE=$cert
}

setup_uv() {
  local mark
  mark=$(fingerprint uv "$ROOT/locks/uv.txt")
  is_fresh uv "$mark" "$TOOLS/uv/bin/uv" && return 0
  say "installing uv (20 MB)"
  rm -rf "$TOOLS/uv"
  "$PYTHON" -m venv "$TOOLS/uv" >"$LOGS/uv.log" 2>&1 || fail "$PYTHON cannot make a virtual environment. Install its venv package (Debian, Ubuntu: apt-get install python3-venv), then run \`$SETUP\` again."
  "$TOOLS/uv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r "$ROOT/locks/uv.txt" >>"$LOGS/uv.log" 2>&1 ||
    fail "uv could not be fetched from the Python package index: $(tail -n 1 "$LOGS/uv.log") (full log: .tools/log/uv.log). $NETWORK_HINT"
  stamp uv "$mark"
}

uv() {
  VIRTUAL_ENV=$VENV UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_CONCURRENT_BUILDS=2 "$TOOLS/uv/bin/uv" "$@"
}

# own_environment NAME LOCK PROOF WHAT: an environment in .tools/NAME, so that its packages constrain no version of the job.
own_environment() {
  local name=$1 lock=$2 folder=$TOOLS/$1 mark
  setup_uv
  mark=$(fingerprint "$name" "$(python_version "$PYTHON")" "$lock")
  is_fresh "$name" "$mark" "$folder/$3" && return 0
  say "installing $4"
  rm -f "$STAMPS/$name"
  adopt_pip_settings
  uv venv --quiet --clear --python "$PYTHON" "$folder" &&
    uv pip sync --quiet --python "$folder" --require-hashes --only-binary :all: "$lock" ||
    fail "$name could not be installed. $NETWORK_HINT"
  stamp "$name" "$mark"
}

# Four packages of the lock exist as sources only. They are built with the tools of locks/build.txt, which are already
# in the environment: no build downloads anything that is not pinned by a hash.
#
# A package whose installation was interrupted appears to be installed and lacks files. So an unfinished environment is
# created again; the wheels come from uv's cache.
sync_packages() {
  local unfinished=$STAMPS/venv-unfinished quiet=''
  if [[ -e $unfinished || $(python_version "$VENV/bin/python") != "$1" ]]; then
    touch "$unfinished"
    uv venv --quiet --clear --python "$PYTHON" "$VENV" || return 1
  fi
  touch "$unfinished"
  [[ -t 2 ]] || quiet=--quiet # Progress bars are for a terminal.
  uv pip install --quiet --require-hashes -r "$ROOT/locks/build.txt" || return 1
  uv pip sync ${quiet:+"$quiet"} --require-hashes --no-build-isolation --compile-bytecode "$ROOT/locks/build.txt" "$ROOT/locks/job.txt" || return 1
  rm "$unfinished"
}

setup_python() {
  setup_uv
  local version mark
  version=$(python_version "$PYTHON")
  mark=$(fingerprint venv "$version" "$ROOT/locks/job.txt" "$ROOT/locks/build.txt")
  if ! is_fresh venv "$mark" "$VENV/bin/python"; then
    say "installing Python packages (about 550 MB on the first run)"
    rm -f "$STAMPS/venv" "$STAMPS/editable"
    adopt_pip_settings
    sync_packages "$version" || fail "the Python packages could not be installed. $NETWORK_HINT"
    stamp venv "$mark"
  fi
  mark=$(fingerprint editable "$version" "$ROOT/pyproject.toml" "$ROOT/examples/own_detector/pyproject.toml")
  is_fresh editable "$mark" "$VENV/bin/reasoner" && return 0
  uv pip install --quiet --reinstall --no-deps --no-build-isolation --editable "$ROOT" --editable "$ROOT/examples/own_detector" || fail "this checkout could not be installed into .venv; see the lines above."
  stamp editable "$mark"
}

# --- jars -------------------------------------------------------------------------------------------------------

# Shows how many files Maven has fetched, on a terminal only; its full output is in the log.
count_downloads() {
  if [[ -t 1 ]]; then
    awk '/Downloaded from/ { printf "\r  %d files", ++n; fflush() } END { if (n) printf "\n" }'
  else
    cat >/dev/null
  fi
}

verify_jars() { # verify_jars FOLDER LIST: every jar of the list exists with its hash, and no other jar
  local folder=$1 list=$2 expected name found
  while read -r expected name; do
    [[ -f $folder/$name ]] || fail "jar $name was not delivered by Maven, but ${list#"$ROOT"/} lists it. The pom and the list must agree."
    found=$(sha256sum <"$folder/$name" | cut -d ' ' -f 1)
    [[ $found == "$expected" ]] || fail "jar $name has SHA-256 $found, expected $expected (${list#"$ROOT"/}). Delete it from Maven's local repository (~/.m2/repository) and run \`$SETUP\` again; if the hash is still different, the repository serves another file: do not use it."
  done <"$list"
  for name in "$folder"/*.jar; do
    grep -qF "  ${name##*/}" "$list" || fail "jar ${name##*/} was downloaded but is not in ${list#"$ROOT"/}. The pom and the list must agree."
  done
}

jars_mark() { fingerprint jars "$HERE/maven/$1/pom.xml" "$HERE/maven/$1.sha256"; }

# Says all that will be downloaded before the first byte is.
announce_jars() { # announce_jars NAME...
  local name files=0 size=0
  for name in "$@"; do
    [[ -f $HERE/maven/$name.sha256 ]] || continue
    is_fresh "jars-$name" "$(jars_mark "$name")" "$TOOLS/jars/$name" && continue
    ((files += $(wc -l <"$HERE/maven/$name.sha256"), size += JARS_MB[$name]))
  done
  ((files == 0)) || say "Maven will download $files jars ($size MB) of Kafka and Flink's connectors, unless ~/.m2 has them, into $TOOLS, where FLINK_HOME will be too (50 MB)"
}

setup_jars() { # setup_jars NAME MAVEN-ARGUMENT...
  local name=$1 mark folder=$TOOLS/jars/$1 list=$HERE/maven/$1.sha256
  shift
  mark=$(jars_mark "$name")
  is_fresh "jars-$name" "$mark" "$folder" && return 0
  say "downloading $(wc -l <"$list") jars for $name (${JARS_MB[$name]} MB on the first run)"
  rm -rf "$folder.part" "$STAMPS/jars-$name"
  JAVA_HOME=$TOOLS/java mvn -B -f "$HERE/maven/$name/pom.xml" -Dstyle.color=never dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder.part" "$@" 2>&1 | tee "$LOGS/maven-$name.log" | count_downloads ||
    fail "Maven could not fetch the jars for $name: $(grep -m 1 'ERROR' "$LOGS/maven-$name.log" | cut -c 1-300 || tail -n 1 "$LOGS/maven-$name.log"). $NETWORK_HINT"
  verify_jars "$folder.part" "$list"
  rm -rf "$folder"
  mv -T "$folder.part" "$folder"
  stamp "jars-$name" "$mark"
}

# --- FLINK_HOME -------------------------------------------------------------------------------------------------

reasoner() { "$PACKAGED" -P -c 'from reasoner.cli import main; main()' "$@"; }

# PyFlink finds connectors only in FLINK_HOME/lib (jars given to the job cause class loader errors), and the command line
# finds flink-python only in an `opt` that is a real folder: so bin, conf, opt and plugins are copies, lib has links.
setup_flink_home() {
  local mark home=$TOOLS/flink wheel jar
  mark=$(fingerprint flink-home "$STAMPS/venv" "$STAMPS/jars-flink" "$STAMPS/jars-s3" "$HERE/setup.sh" "$HERE/flink_conf.py" "$HERE/dashboard_page.py" "$ROOT"/{,reasoner/}flink-conf/*)
  is_fresh flink-home "$mark" "$home/bin/flink" "$home"/lib/*.jar && return 0 # links: other packages may stand there now
  say "creating FLINK_HOME"
  wheel=$("$PACKAGED" -c 'import importlib.util; print(importlib.util.find_spec("pyflink").submodule_search_locations[0])')
  rm -rf "$home.part"
  mkdir -p "$home.part/lib" "$home.part/log"
  cp -r "$wheel/bin" "$wheel/conf" "$wheel/opt" "$wheel/plugins" "$home.part/"
  for jar in "$wheel"/lib/*.jar "$TOOLS"/jars/flink/*.jar; do
    ln -s "$jar" "$home.part/lib/"
  done
  if [[ -f $STAMPS/jars-s3 ]]; then # A file system of Flink is a plugin: with its classes in lib, Iceberg would see two Hadoops.
    mkdir "$home.part/plugins/s3"
    ln -s "$TOOLS"/jars/s3/flink-s3-fs-*.jar "$home.part/plugins/s3/"
    ln -s "$TOOLS"/jars/s3/iceberg-aws-bundle-*.jar "$home.part/lib/"
  fi
  jar=$(compgen -G "$wheel/opt/flink-python-*.jar")
  ln -s "../opt/${jar##*/}" "$home.part/lib/" # the entry class of jobs that come by dashboard and REST
  chmod +x "$home.part"/bin/*.sh "$home.part/bin/flink"
  # The configuration is for Flink's command line and mini-clusters.
  reasoner flink conf local --to "$home.part/conf" >/dev/null
  reasoner flink dashboard --flink-home "$home.part" >/dev/null
  rm -rf "$home"
  mv -T "$home.part" "$home"
  stamp flink-home "$mark"
}

# --- Go ---------------------------------------------------------------------------------------------------------

# find_go GO.MOD WHAT: prints the first Go of this machine that is new enough for the module. That of a distribution is
# often older, and its errors then speak of the file (Debian 12 has Go 1.19).
find_go() {
  local go wanted found=none
  wanted=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$1")
  for go in $(type -ap go) /usr/local/go/bin/go /usr/lib/go/bin/go; do
    [[ -x $go ]] || continue
    found=$(cd / && GOTOOLCHAIN=local "$go" env GOVERSION)
    printf '%s\n' "$wanted" "${found#go}" | sort --check=quiet --version-sort && printf '%s\n' "$go" && return 0
  done
  fail "Go $wanted or newer is needed for $2, found ${found#go}. Install it from https://go.dev/dl/ (into /usr/local/go, or on PATH), then run the same command again."
}

# build_go NAME FOLDER OUTPUT PACKAGE...: builds each package of the module whose go.mod and go.sum are in FOLDER, all of
# its dependencies checked by hash, into the folder OUTPUT. NAME is that of the log.
build_go() {
  local name=$1 from=$2 output=$3 go
  shift 3
  go=$(find_go "$from/go.mod" "$name")
  mkdir -p "$output"
  (
    export GOBIN=$output GOFLAGS=-buildvcs=false GOTOOLCHAIN=local CGO_ENABLED=0
    cd "$from" && "$go" build -mod=readonly -trimpath -ldflags="-s -w ${LDFLAGS:-}" -o "$output/" "$@"
  ) >"$LOGS/$name.log" 2>&1 || fail "$name could not be built: $(tail -n 1 "$LOGS/$name.log") (full log: $LOGS/$name.log). Check the network and GOPROXY, then run the same command again."
}

# --- parts ------------------------------------------------------------------------------------------------------

setup_kafka() { setup_jars kafka; }

setup_flink() {
  [[ -z $VENV ]] || setup_python
  setup_jars flink -DexcludeTransitive=true
  setup_flink_home
}

refuse_unknown() { # refuse_unknown PART...
  local part known=("${ANYWHERE[@]}") elsewhere='; other parts are for a checkout'
  # shellcheck disable=SC2207 # names of our own files, without spaces
  [[ -z $VENV ]] || elsewhere='' known=(python $(cd "$HERE/parts" && printf '%s\n' *.sh | sed 's/\.sh$//'))
  for part in "$@"; do
    [[ " kafka flink ${known[*]} " == *" $part "* ]] && continue
    printf 'setup: found the part %s, expected kafka, flink%s%s\n' "$part" "$(printf ', %s' "${known[@]}")" "$elsewhere" >&2
    exit 2
  done
}

main() {
  local part parts=("$@")
  ((${#parts[@]})) || parts=(${VENV:+python} kafka flink)
  refuse_unknown "${parts[@]}"
  for part in "${parts[@]}"; do
    [[ $part =~ ^(python|kafka|flink)$ ]] && continue
    # shellcheck disable=SC1090
    source "$HERE/parts/$part.sh"
  done
  trap 'fail "interrupted. Run \`$SETUP\` again to continue."' INT TERM
  mkdir -p "$STAMPS" "$LOGS" "$TOOLS/jars"
  exec 9>"$TOOLS/lock"
  flock --nonblock 9 || { say "another setup fills $TOOLS; waiting until it ends" && flock 9; }
  ensure_system
  [[ -n $VENV ]] || announce_jars "${parts[@]}"
  for part in "${parts[@]}"; do
    "setup_$part"
  done
}

main "$@"
