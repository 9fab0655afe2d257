#!/bin/sh
# timeout: 600
# The worker is killed at the moments that matter, while applications work.
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=tests/lib/blobd.sh
. "$TOP/tests/lib/blobd.sh"
t_begin

TURNS=1
[ -z "${FULL:-}" ] || TURNS=20
SEED=${SEED:-$(date +%s)}
echo "seed $SEED"
${CC:-cc} -O1 -shared -fPIC -o "$T/kill_at.so" "$TOP/tests/crash/preload/kill_at.c" -ldl ||
  t_skip "no compiler"
head -c 8 /dev/zero >"$T/order"

blobd_start --latency-ms 2
blobd_seed container=box prefix=seed/ count=1 size=10 >/dev/null
answers() { [ -n "$(t_status worker_pid 2>/dev/null)" ]; }
# In the foreground, for its log.
LD_PRELOAD=$T/kill_at.so KILL_AT=$T/order \
  "$FOREBAY" mount "$BLOBD_URL/box" "$MNT" -f -o "cache=$CACHE" 2>"$T/log" &
t_wait_for 10 answers
python3 "$TOP/tests/crash/load.py" --big "$MNT/big" $((16 * MiB))
"$FOREBAY" flush "$MNT" >/dev/null

t_claim "killed at each point, nobody is surprised"
# For as long as it takes to meet all of them.
python3 "$TOP/tests/crash/load.py" "$MNT" 3600 "$SEED" "$FOREBAY" "$T/stop" \
  >"$T/load" &
load=$!
python3 "$TOP/tests/crash/points.py" "$T/order" "$MNT" "$FOREBAY" $TURNS || {
  cat "$T/load"
  tail -n 40 "$T/log"
  t_fail "not every point was met"
}
touch "$T/stop"
wait $load || {
  cat "$T/load"
  tail -n 40 "$T/log"
  t_fail "somebody was surprised"
}
cat "$T/load"
t_claim "the store ends up as the mount is"
"$FOREBAY" flush "$MNT" >/dev/null
t_eq conflicts "$(t_status conflicts)" 0
t_eq "set aside" "$(t_status set_aside)" 0
MNT2=$T/mnt2
(MNT=$MNT2 CACHE=$T/cache2 t_mount "$BLOBD_URL/box")
diff -r --no-dereference "$MNT" "$MNT2" || t_fail "they differ"
"$FOREBAY" umount "$MNT2"
t_umount
