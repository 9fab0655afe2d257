# shellcheck shell=sh
# What the mount tests share: . "$(dirname "$0")/../lib/common.sh"
#
# A test is a script that exits 0 (passed), 77 (skipped; t_skip says why) or
# anything else (failed; t_fail says why).  It works in $T, a directory of its
# own on a disk; whatever is mounted below it, and every process started after
# t_begin, is gone when the script ends, however it ends.
#
# Comments that scripts/test reads in a test script:
#   # sanitize: yes      run it with the sanitizers too
#   # timeout: 900       seconds, instead of 600: more is stuck
set -eu

TOP=$(cd "$(dirname "$0")/../.." && pwd -P)
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$TOP/$BUILD ;; esac
FOREBAY=${FOREBAY:-$BUILD/forebay}
export TOP BUILD FOREBAY

KiB=1024
MiB=$((1024 * KiB))
GiB=$((1024 * MiB))
export KiB MiB GiB

# ---- saying things ----

t_claim() { echo "claim: $*"; }
t_fail() {
  echo "failed: $*" >&2
  exit 1
}
t_skip() {
  echo "skipped: $*"
  exit 77
}
# t_eq WHAT GOT WANTED
t_eq() { [ "$2" = "$3" ] || t_fail "$1: got '$2', wanted '$3'"; }

# ---- processes and mounts that are ours ----

# The processes that have VAR=VALUE in the environment they were started with.
t_pids() (
  # Not in the environment of those that look.
  unset "${1%%=*}"
  grep -lsz "^$1\$" /proc/[0-9]*/environ 2>/dev/null |
    sed 's|^/proc/||; s|/.*||'
)

# Ends the processes marked VAR=VALUE: a second's grace, then by force.
t_kill_marked() {
  for t_signal in TERM KILL; do
    t_left=$(t_pids "$1")
    [ -n "$t_left" ] || return 0
    # shellcheck disable=SC2086 # a list of pids
    kill -"$t_signal" $t_left 2>/dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      [ -n "$(t_pids "$1")" ] || return 0
      sleep 0.1
    done
  done
}

# Unmounts everything below a directory, innermost first.
t_umount_below() {
  awk -v below="$1/" 'index($5 "/", below) == 1 { print $5 }' \
    /proc/self/mountinfo | sort -r | sed 's/\\\([0-7]\)/\\0\1/g' |
    while read -r t_point; do
      t_point=$(printf '%b' "$t_point") # \040 and the like
      timeout 10 umount "$t_point" 2>/dev/null || umount -l "$t_point" 2>/dev/null ||
        true
    done
}

# A directory whose file system is on a disk: tmpfs has no room, and neither
# it nor overlayfs can back a passthrough.
t_disk_dir() {
  for t_dir in "${TMPDIR:-/tmp}" /var/tmp "$TOP/build"; do
    case $(stat -f -c %T "$t_dir" 2>/dev/null) in
    '' | tmpfs | ramfs | overlayfs) ;;
    *) echo "$t_dir" && return ;;
    esac
  done
  echo "${TMPDIR:-/tmp}"
}

# ---- a test ----

# Sets T (the test's directory), MNT, CACHE and STORE below it.
t_begin() {
  [ "$(id -u)" = 0 ] || t_skip "needs root, to mount"
  [ -e /dev/fuse ] || t_skip "there is no /dev/fuse here"
  [ -x "$FOREBAY" ] || t_fail "no $FOREBAY: run make"
  T=$(mktemp -d "$(t_disk_dir)/forebay-test.XXXXXX")
  T=$(cd "$T" && pwd -P)
  MNT=$T/mnt
  CACHE=$T/cache
  STORE=$T/store
  mkdir "$MNT" "$CACHE" "$STORE"
  # Not in the environment that this shell itself was started with.
  export FOREBAY_T="$$-$T"
  trap t_end EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

t_end() {
  t_result=$?
  trap - EXIT
  set +e
  t_umount_below "$T"
  t_kill_marked "FOREBAY_T=$FOREBAY_T"
  t_umount_below "$T"
  if [ -n "${KEEP:-}" ]; then
    echo "kept: $T"
  else
    rm -rf --one-file-system "$T"
  fi
  exit $t_result
}

# t_mount STORE [OPTIONS]: at $MNT with the cache directory $CACHE.  For a
# second mount: MNT=$T/mnt2 CACHE=$T/cache2 t_mount ...
t_mount() {
  mkdir -p "$MNT" "$CACHE"
  "$FOREBAY" mount "$1" "$MNT" -o "cache=$CACHE${2:+,$2}" ||
    t_fail "mount of $1 failed"
}

# t_umount [--drain]: returns when the daemon is gone, too.
t_umount() {
  t_keeper=$(t_status keeper_pid 2>/dev/null) || t_keeper=
  "$FOREBAY" umount "$MNT" "$@" || t_fail "umount of $MNT failed"
  if [ -n "$t_keeper" ]; then
    t_wait_for 10 t_gone "$t_keeper"
  fi
}

t_gone() { [ ! -d "/proc/$1" ]; }

# t_status KEY: one value of status --json of the mount at $MNT.
t_status() {
  "$FOREBAY" status "$MNT" --json | jq -er --arg key "$1" \
    'if has($key) then .[$key] | tostring else error("no \($key)") end'
}

# Tests also run where others work: what takes time gets this much more of it,
# so that only what is stuck fails.  FULL=1 (make soak, on a machine that does
# nothing else) holds every promise about time to the letter.
T_PATIENCE=10
[ -z "${FULL:-}" ] || T_PATIENCE=1

# t_took MS LIMIT WHAT...: a promise about time.
t_took() {
  t_ms=$1 t_promise=$2
  shift 2
  [ "$t_ms" -le $((t_promise * T_PATIENCE)) ] ||
    t_fail "$*: $t_ms ms, wanted at most $t_promise"
}

# t_wait_for SECONDS COMMAND...: until it succeeds, asking 20 times a second.
t_wait_for() {
  t_limit=$(($1 * T_PATIENCE))
  shift
  t_end_ms=$(($(date +%s%3N) + t_limit * 1000))
  until "$@"; do
    [ "$(date +%s%3N)" -lt "$t_end_ms" ] ||
      t_fail "not within $t_limit s: $*"
    sleep 0.05
  done
}

# t_random FILE BYTES
t_random() { head -c "$2" /dev/urandom >"$1"; }
# Bytes that a directory really takes on its disk.
t_du() { du -s --block-size=1 "$1" | cut -f1; }
