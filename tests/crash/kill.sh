#!/bin/sh
# sanitize: yes
# timeout: 600
# The worker is killed again and again while applications work: none of them
# sees an error, every call took effect once, and no pause is long.
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=tests/lib/blobd.sh
. "$TOP/tests/lib/blobd.sh"
t_begin

KILLS=20
[ -z "${FULL:-}" ] || KILLS=200
KILLS=${KILLS_NR:-$KILLS}
BIG=$((48 * MiB))
SEED=${SEED:-$(date +%s)}
echo "seed $SEED"

blobd_start --latency-ms 5
URL=$BLOBD_URL/box
blobd_seed container=box prefix=seed/ count=1 size=10 >/dev/null
answers() { [ -n "$(t_status worker_pid 2>/dev/null)" ]; }
# In the foreground, for its log.
"$FOREBAY" mount "$URL" "$MNT" -f -o "cache=$CACHE" 2>"$T/log" &
t_wait_for 10 answers
python3 "$TOP/tests/crash/load.py" --big "$MNT/big" "$BIG"
"$FOREBAY" flush "$MNT" >/dev/null
"$FOREBAY" evict "$MNT/big" >/dev/null
keeper=$(t_status keeper_pid)
descriptors=$(find "/proc/$keeper/fd" -type l | wc -l)

t_claim "$KILLS kills of the worker under a mixed load surprise nobody"
python3 "$TOP/tests/crash/load.py" "$MNT" $((KILLS * 9 / 10 + 1)) "$SEED" \
  "$FOREBAY" >"$T/load" &
load=$!
before=
another_worker() {
  worker=$(pgrep -P "$keeper") && [ "$worker" != "$before" ]
}
n=0
while [ $n -lt "$KILLS" ]; do
  n=$((n + 1))
  # Every third may be killed before it answers (a pause is then as long as two
  # starts), and every third lives: five in a row that did not answer for a
  # second would be the end.
  [ $((n % 3)) = 1 ] || t_wait_for 60 answers
  [ $((n % 3)) != 0 ] || sleep 1.5
  sleep "$(awk -v ms="$(shuf -i 0-700 -n 1)" 'BEGIN { print ms / 1000 }')"
  t_wait_for 60 another_worker || { tail -n 40 "$T/log"; exit 1; }
  kill -KILL "$worker" || t_fail "there is no worker to kill"
  before=$worker
  kill -0 $load 2>/dev/null || break
done
wait $load || {
  cat "$T/load"
  tail -n 40 "$T/log"
  t_fail "somebody was surprised"
}
cat "$T/load"
t_wait_for 10 answers
t_eq "restarts" "$(t_status worker_restarts)" "$n"

t_claim "no call took 2 s"
longest=$(jq -s 'map(.longest_ms) | max' "$T/load")
t_took "$longest" 2000 "the longest call"

t_claim "the keeper holds what it held"
t_eq "descriptors" "$(find "/proc/$keeper/fd" -type l | wc -l)" "$descriptors"

t_claim "the store ends up as the mount is, and nobody lost a race"
"$FOREBAY" flush "$MNT" >/dev/null
t_eq conflicts "$(t_status conflicts)" 0
t_eq "set aside" "$(t_status set_aside)" 0
MNT2=$T/mnt2
(MNT=$MNT2 CACHE=$T/cache2 t_mount "$URL")
diff -r --no-dereference "$MNT" "$MNT2" || t_fail "they differ"
"$FOREBAY" umount "$MNT2"

t_claim "a fresh mount drops what nobody has open any more"
t_umount
t_mount "$URL"
t_umount
t_eq "held" "$(python3 -c 'import sqlite3, sys
print(*sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM held").fetchone())
' "$CACHE/index.db")" 0
