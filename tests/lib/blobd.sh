# shellcheck shell=sh
# Our blob service in shell tests: start it, steer it, stop it.
#
#   . "$(dirname "$0")/../lib/blobd.sh"     (with or without common.sh)
#   blobd_start --latency-ms 20
#   t_mount "$BLOBD_URL/container"
#
# Sets BLOBD_PID, BLOBD_PORT, BLOBD_URL (http://127.0.0.1:PORT/ACCOUNT) and
# exports the account's credentials as AZURE_STORAGE_ACCOUNT and _KEY.  Only
# the process started here is stopped, by its pid.  BLOBD names the binary.

BLOBD_TOP=$(cd "$(dirname "$0")/../.." && pwd -P)
BLOBD=${BLOBD:-${BUILD:-$BLOBD_TOP/build}/tests/blobd}
BLOBD_ACCOUNT=devstoreaccount1
# The emulators' well-known key: public, no secret.
BLOBD_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
BLOBD_PID=

# blobd_start [OPTION...]: returns when it listens, on a free port.
blobd_start() {
  blobd_out=$(mktemp)
  "$BLOBD" "$@" >"$blobd_out" &
  BLOBD_PID=$!
  until grep -q '^listening ' "$blobd_out"; do
    if ! kill -0 "$BLOBD_PID" 2>/dev/null; then
      echo "blobd did not start" >&2
      rm -f "$blobd_out"
      BLOBD_PID=
      return 1
    fi
    sleep 0.02
  done
  BLOBD_PORT=$(sed -n 's/^listening //p' "$blobd_out")
  BLOBD_URL=http://127.0.0.1:$BLOBD_PORT/$BLOBD_ACCOUNT
  rm -f "$blobd_out"
  export BLOBD_URL AZURE_STORAGE_ACCOUNT="$BLOBD_ACCOUNT"
  export AZURE_STORAGE_KEY="$BLOBD_KEY"
}

# blobd_stop: its exit status.
blobd_stop() {
  [ -n "$BLOBD_PID" ] || return 0
  blobd_pid=$BLOBD_PID
  BLOBD_PID=
  kill "$blobd_pid" 2>/dev/null || true
  wait "$blobd_pid"
}

# blobd_ctl METHOD COMMAND [KEY=VALUE...]: one call of the control interface.
blobd_ctl() (
  method=$1 command=$2
  shift 2
  for arg in "$@"; do
    shift
    set -- "$@" --data-urlencode "$arg"
  done
  # -G puts the parameters into the query.
  curl -sS -f -G -X "$method" "$@" "http://127.0.0.1:$BLOBD_PORT/_/$command"
)

# blobd_fault KIND [op=.. name=.. count=.. skip=..]
blobd_fault() {
  blobd_kind=$1
  shift
  blobd_ctl POST fault "kind=$blobd_kind" "$@"
}
blobd_fault_clear() { blobd_ctl DELETE fault; }
blobd_down() { blobd_ctl POST down; }
blobd_up() { blobd_ctl POST up; }
blobd_latency() { blobd_ctl POST latency "ms=$1"; }
# blobd_hook op=.. [name=.. count=.. at=after]
blobd_hook() { blobd_ctl POST hook "$@"; }
# blobd_release [count=.. keep=1]
blobd_release() { blobd_ctl POST release "$@"; }
# How many requests are held.
blobd_held() { blobd_ctl GET held | sed 's/{"held":\([0-9]*\).*/\1/'; }
# blobd_log [FROM]: JSON lines.
blobd_log() { blobd_ctl GET log "from=${1:-1}"; }
blobd_counts() { blobd_ctl GET counts; }
blobd_counts_reset() { blobd_ctl POST counts/reset; }
# blobd_count OP: requests of that op since the last reset.
blobd_count() { blobd_counts | sed "s/.*\"$1\":\([0-9]*\).*/\1/"; }
# blobd_reads [GLOB of container/name]
blobd_reads() { blobd_ctl GET reads ${1:+"name=$1"}; }
# blobd_container NAME: makes it, empty.
blobd_container() { blobd_ctl POST seed "container=$1" count=0; }
# blobd_seed container=.. [prefix=.. count=.. size=.. depth=.. per=..]
blobd_seed() { blobd_ctl POST seed "$@"; }
# blobd_seed_large container=.. name=.. size=..
blobd_seed_large() { blobd_ctl POST seed-large "$@"; }
