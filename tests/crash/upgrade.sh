#!/bin/sh
# A mount is handed from binary to binary while applications work.
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=tests/lib/blobd.sh
. "$TOP/tests/lib/blobd.sh"
t_begin

TIMES=5
[ -z "${FULL:-}" ] || TIMES=20
BIG=$((32 * MiB))
SEED=${SEED:-$(date +%s)}
echo "seed $SEED"

blobd_start --latency-ms 5
blobd_seed container=box prefix=seed/ count=1 size=10 >/dev/null
answers() { [ -n "$(t_status worker_pid 2>/dev/null)" ]; }
# In the foreground, for its log.
"$FOREBAY" mount "$BLOBD_URL/box" "$MNT" -f -o "cache=$CACHE" 2>"$T/log" &
t_wait_for 10 answers
keeper=$(t_status keeper_pid)
python3 "$TOP/tests/crash/load.py" --big "$MNT/big" "$BIG"
"$FOREBAY" flush "$MNT" >/dev/null
"$FOREBAY" evict "$MNT/big" >/dev/null
descriptors=$(find "/proc/$keeper/fd" -type l | wc -l)

t_claim "$TIMES upgrades under a mixed load: no error, no pause of a second"
python3 "$TOP/tests/crash/load.py" "$MNT" $((TIMES + 1)) "$SEED" \
  "$FOREBAY" >"$T/load" &
load=$!
n=0
while [ $n -lt $TIMES ]; do
  n=$((n + 1))
  cp "$FOREBAY" "$T/forebay-$n"
  # What it was upgraded to before may be gone from the disk.
  rm -f "$T/forebay-$((n - 1))"
  "$T/forebay-$n" upgrade "$MNT" || t_fail "upgrade $n: $(cat "$T/log")"
  sleep 0.5
done
wait $load || {
  cat "$T/load"
  tail -n 40 "$T/log"
  t_fail "somebody was surprised"
}
cat "$T/load"
t_eq "its binary" "$(readlink "/proc/$(t_status worker_pid)/exe")" \
  "$T/forebay-$TIMES"
t_eq restarts "$(t_status worker_restarts)" 0
t_eq keeper "$(t_status keeper_pid)" "$keeper"
longest=$(jq -s 'map(.longest_ms) | max' "$T/load")
t_took "$longest" 1000 "the longest call"

t_claim "a crash afterwards starts the binary that serves now"
before=$(t_status worker_pid)
kill -KILL "$before"
restarted() { [ "$(t_status worker_restarts 2>/dev/null)" = "$1" ]; }
t_wait_for 10 restarted 1
t_eq "its binary" "$(readlink "/proc/$(t_status worker_pid)/exe")" \
  "$T/forebay-$TIMES"

# ask BINARY: as `forebay upgrade` does; prints the error, or "handed over".
ask() {
  python3 - "$(printf '/run/forebay/%s.sock' "$(t_status device)")" "$1" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"cmd": "upgrade", "binary": sys.argv[2]}).encode() + b"\n")
try:
    line = s.makefile().readline()
except ConnectionResetError:
    line = ""
print(json.loads(line)["error"] if line else "handed over")
PY
}

t_claim "a binary that cannot serve is refused, and the worker stays"
worker=$(t_status worker_pid)
for binary in /bin/true "$T/nothing" "$BUILD/tests/crash/stub_worker"; do
  said=$(ask "$binary")
  echo "  $said"
  [ "$said" != "handed over" ] || t_fail "$binary"
  t_eq worker "$(t_status worker_pid)" "$worker"
done

t_claim "one that fails after that gives back to the one before"
for stub in stub-dies stub-floods; do
  cp "$BUILD/tests/crash/stub_worker" "$T/$stub"
  exec 9<"$MNT/big"
  before=$(t_status worker_restarts)
  t_eq "it takes over" "$(ask "$T/$stub")" "handed over"
  t_wait_for 10 restarted $((before + 1))
  t_eq "its binary" "$(readlink "/proc/$(t_status worker_pid)/exe")" \
    "$T/forebay-$TIMES"
  head -c 100 <&9 | cmp - "$MNT/big" -n 100 || t_fail "the open file"
  exec 9<&-
done
t_eq keeper "$(t_status keeper_pid)" "$keeper"

t_claim "the keeper holds what it held"
t_eq "descriptors" "$(find "/proc/$keeper/fd" -type l | wc -l)" "$descriptors"
"$FOREBAY" flush "$MNT" >/dev/null
t_umount
