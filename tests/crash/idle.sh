#!/bin/bash
# A mount that nobody uses costs nothing; one that is used leaks nothing; what
# keeper and worker are to the system.
# timeout: 2400
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=tests/lib/blobd.sh
. "$TOP/tests/lib/blobd.sh"
t_begin

IDLE=5 LOAD=3
[ -z "${FULL:-}" ] || { IDLE=60 LOAD=1800; }

blobd_start
blobd_seed container=box prefix=d/ count=100 size=10000 >/dev/null
t_mount "$BLOBD_URL/box"
keeper=$(t_status keeper_pid)
worker=$(t_status worker_pid)

t_claim "the keeper is the last to be killed, and is never swapped"
caps=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
has_resource=$(((16#$caps >> 24) & 1)) # CAP_SYS_RESOURCE
if [ $has_resource = 1 ]; then
  t_eq "of the keeper" "$(cat "/proc/$keeper/oom_score_adj")" -1000
else
  echo "  not to be had here: no CAP_SYS_RESOURCE"
fi
t_eq "of the worker" "$(cat "/proc/$worker/oom_score_adj")" \
  "$(cat /proc/self/oom_score_adj)"
locked() { sed -n 's/^VmLck:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"; }
[ "$(locked "$keeper")" -gt 0 ] || t_fail "nothing is locked"
# PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, of PR_SET_IO_FLUSHER.
flags=$(cut -d' ' -f9 "/proc/$worker/stat")
[ $((flags & 0x80000)) != 0 ] || [ $has_resource = 0 ] || t_fail "PR_SET_IO_FLUSHER: flags $flags"

rss() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"; }
fds() { find "/proc/$1/fd" -type l | wc -l; }
load() {
  rm -rf "$MNT/names" "$MNT/saves" "$MNT/maps"
  python3 "$TOP/tests/crash/load.py" "$MNT" "$1" 1 "$FOREBAY" >"$T/load" || {
    cat "$T/load"
    t_fail "surprised"
  }
}
t_claim "$LOAD s of load leak no descriptor, and no memory"
python3 "$TOP/tests/crash/load.py" --big "$MNT/big" $((16 * MiB))
load $((LOAD / 3))
keeper_rss=$(rss "$keeper") keeper_fds=$(fds "$keeper")
worker_rss=$(rss "$worker") worker_fds=$(fds "$worker")
load "$LOAD"
"$FOREBAY" flush "$MNT" >/dev/null
echo "  keeper: $keeper_rss, then $(rss "$keeper") KiB;" \
  "worker: $worker_rss, then $(rss "$worker") KiB"
t_eq "the keeper's descriptors" "$(fds "$keeper")" "$keeper_fds"
t_eq "the keeper's memory" "$(rss "$keeper")" "$keeper_rss"
# Threads get their pipes, connections and readers as they are needed.
few() { [ "$(fds "$worker")" -le $((worker_fds + 64)) ]; }
t_wait_for 20 few
[ "$(rss "$worker")" -le $((worker_rss + worker_rss / 4 + 8192)) ] ||
  t_fail "the worker's memory"

t_claim "an idle mount uses no processor and wakes less than once a second"
rm -rf "$MNT/names" "$MNT/saves" "$MNT/maps"
"$FOREBAY" flush "$MNT" >/dev/null
# Of all threads: ticks of the processor, and how often one slept.
ticks() { awk '{ n += $14 + $15 } END { print n }' /proc/{"$keeper","$worker"}/task/*/stat; }
sleeps() {
  awk '/^voluntary_ctxt/ { n += $2 } END { print n }' \
    /proc/{"$keeper","$worker"}/task/*/status
}
# What was done ends by itself: until nothing happens for $1 seconds.
settled() {
  before_ticks=$(ticks) before=$(sleeps)
  sleep "$1"
  used=$(($(ticks) - before_ticks)) slept=$(($(sleeps) - before))
  # 0.1 % of a second is a tenth of a tick.
  [ "$slept" -le "$1" ] && [ $((used * 10)) -le "$1" ]
}
t_wait_for 60 settled "$IDLE"
echo "  in $IDLE s: $used ticks, $slept sleeps"
t_umount

t_claim "a stop of the whole group is a stop, not a crash"
for signal in TERM INT; do
  "$FOREBAY" mount "$BLOBD_URL/box" "$MNT" -f -o "cache=$CACHE" 2>"$T/log" &
  pid=$!
  answers() { [ -n "$(t_status worker_pid 2>/dev/null)" ]; }
  t_wait_for 10 answers
  echo text >"$MNT/$signal"
  kill -$signal "$(t_status worker_pid)" "$(t_status keeper_pid)"
  begin=$(date +%s%3N)
  wait $pid || t_fail "its exit status: $(cat "$T/log")"
  t_took $(($(date +%s%3N) - begin)) 5000 "the stop"
  if grep -q "starting another" "$T/log"; then t_fail "it was a crash"; fi
  grep -q unmounted "$T/log" || t_fail "$(cat "$T/log")"
  t_eq "the clean flag" "$(python3 -c 'import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute(
    "SELECT value FROM meta WHERE key = ?", (b"clean",)).fetchone())
' "$CACHE/index.db")" 1
done

t_claim "without FUSE_NOTIFY_RESEND a dead worker is the end, and no hang"
${CC:-cc} -O1 -shared -fPIC -o "$T/kill_at.so" \
  "$TOP/tests/crash/preload/kill_at.c" -ldl || t_skip "no compiler"
LD_PRELOAD=$T/kill_at.so NO_RESEND=1 \
  "$FOREBAY" mount "$BLOBD_URL/box" "$MNT" -f -o "cache=$CACHE" 2>"$T/log" &
pid=$!
t_wait_for 10 answers
kill -KILL "$(t_status worker_pid)"
if wait $pid; then t_fail "exit status 0"; fi
grep -q "cannot send again" "$T/log" || t_fail "$(cat "$T/log")"
if grep -q " $MNT " /proc/self/mountinfo; then t_fail "still mounted"; fi
