#!/bin/bash
# Runs the store contract on the stores named (dir azurite blobd; default all).
# Exit status: 0 all hold, 1 a claim does not, 77 nothing could be run.
# BUILD is the build directory; CONTRACT and BLOBD name other binaries.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$top/build}
contract=${CONTRACT:-$build/tests/contract}
. "$top/tests/lib/azurite.sh"
. "$top/tests/lib/blobd.sh"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/forebay-contract.XXXXXX")
cleanup() {
  azurite_stop
  blobd_stop
  rm -rf "$scratch"
}
trap cleanup EXIT

failed=0 ran=0

claim() { # store URL
  echo "== $1"
  ran=$((ran + 1))
  if ! "$contract" "$2"; then
    echo "FAIL: contract on $1" >&2
    failed=1
  fi
}

on_dir() {
  mkdir "$scratch/dir"
  claim dir: "dir:$scratch/dir"
}

on_azurite() {
  AZURITE_MEMORY=1 azurite_start "$scratch/azurite"
  case $? in
  0) ;;
  77) return ;;
  *) failed=1; return ;;
  esac
  local url
  url=$(azurite_container contract) || { failed=1; return; }
  claim azurite "$url"
  azurite_stop
}

on_blobd() {
  if [ ! -x "$BLOBD" ]; then
    echo "SKIP: no $BLOBD (make tests builds it)" >&2
    return
  fi
  # shellcheck disable=SC2086 # a list of options
  blobd_start ${BLOBD_OPTIONS:-} || { failed=1; return; }
  "$top/tests/lib/azure_rest.py" "$BLOBD_URL/contract" create-container ||
    { failed=1; return; }
  claim blobd "$BLOBD_URL/contract"
  # With sanitizers, its own end is a claim too.
  blobd_stop || { echo "FAIL: blobd ended with $?" >&2; failed=1; }
}

if [ ! -x "$contract" ]; then
  echo "run.sh: no $contract; build it with: make" >&2
  exit 1
fi
[ $# -gt 0 ] || set -- dir azurite blobd
for store in "$@"; do
  case $store in
  dir | azurite | blobd) "on_$store" ;;
  *) echo "run.sh: $store: not dir, azurite or blobd" >&2; exit 2 ;;
  esac
done
[ $failed = 0 ] || exit 1
[ $ran -gt 0 ] || exit 77
