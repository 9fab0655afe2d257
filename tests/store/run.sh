#!/bin/bash
# Runs the store contract on the stores named (dir azurite blobd; default all).
# Exit status: 0 all hold, 1 a claim does not, 77 nothing could be run.
# CONTRACT and BLOBD name the binaries (default build/tests/...).
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
contract=${CONTRACT:-$top/build/tests/store/contract}
blobd=${BLOBD:-$top/build/tests/blobd}
. "$top/tests/lib/azurite.sh"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/forebay-contract.XXXXXX")
blobd_pid=
cleanup() {
  azurite_stop
  [ -n "$blobd_pid" ] && kill "$blobd_pid" 2>/dev/null
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

# blobd prints "listening PORT" when it is ready.
on_blobd() {
  local line port
  if [ ! -x "$blobd" ]; then
    echo "SKIP: no $blobd (make builds it)" >&2
    return
  fi
  mkfifo "$scratch/blobd.out"
  "$blobd" ${BLOBD_OPTIONS:-} >"$scratch/blobd.out" 2>"$scratch/blobd.log" &
  blobd_pid=$!
  exec 8<"$scratch/blobd.out"
  read -r -t 20 line <&8 || line=
  port=${line#listening }
  case $port in
  "" | *[!0-9]*)
    echo "blobd: does not start: $line $(tail -1 "$scratch/blobd.log")" >&2
    failed=1
    return
    ;;
  esac
  export AZURE_STORAGE_ACCOUNT=devstoreaccount1
  export AZURE_STORAGE_KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
  local url=http://127.0.0.1:$port/devstoreaccount1/contract
  "$top/tests/lib/azure_rest.py" "$url" create-container ||
    { failed=1; return; }
  claim blobd "$url"
  kill "$blobd_pid" 2>/dev/null
  wait "$blobd_pid" 2>/dev/null
  blobd_pid=
  exec 8<&-
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
