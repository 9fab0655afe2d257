#!/bin/bash
# The order at the store: what one process writes, fsyncs, renames and deletes
# is seen there in its order, in states that were closed, with no group formed;
# a temporary name costs nothing.  At 0 and at 20 ms of latency.
#   FULL=1: 20 seeds at each
# timeout: 1200
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"


order() {
  ms=$1 seed=$2
  t_claim "order, $ms ms, seed $seed"
  blobd_start --latency-ms "$ms"
  blobd_container order >/dev/null
  t_mount "$BLOBD_URL/order"
  "$TOP/tests/mount/order.py" write "$MNT" "$T/did" 12 "$seed"
  "$FOREBAY" flush "$MNT" >/dev/null
  t_eq groups "$(t_status groups)" 0
  t_eq conflicts "$(t_status conflicts)" 0
  blobd_log >"$T/log"
  "$TOP/tests/mount/order.py" check "$T/did" "$T/log"
  t_umount
  blobd_stop
  rm -rf "$CACHE"
}

total() { blobd_counts | jq '.requests | add - .list'; }

t_begin
if [ -n "${FULL:-}" ]; then
  for seed in $(seq 20); do
    order 0 "$seed"
    order 20 "$seed"
  done
else
  order 0 1
  order 20 2
fi

blobd_start --latency-ms 20
blobd_container order >/dev/null
t_mount "$BLOBD_URL/order" writeback_open=1

t_claim "temporary files that are deleted before their upload cost no request"
ls "$MNT" >/dev/null
blobd_counts_reset >/dev/null
for i in $(seq 50); do
  echo "$i" >"$MNT/tmp.$i"
  rm "$MNT/tmp.$i"
done
"$FOREBAY" flush "$MNT" >/dev/null
t_eq "requests but lists" "$(total)" 0

t_claim "a file that is held open is sent when it is quiet, never torn"
# held_sent NR: that many uploads of it.
held_sent() {
  blobd_log | jq -r 'select(.name == "held" and (.op == "put" or
    .op == "commit")) | .sha256' >"$T/sent"
  [ "$(wc -l <"$T/sent")" -ge "$1" ]
}
mkfifo "$T/go"
python3 - "$MNT/held" "$T/go" >"$T/held" <<'PY' &
import hashlib, os, sys, time
h = hashlib.sha256()
f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for part in range(2):
    for i in range(100):
        piece = os.urandom(30000)
        os.write(f, piece)
        h.update(piece)
        time.sleep(0.02)
    print(h.hexdigest(), flush=True)
    if part == 0:
        open(sys.argv[2]).read()
os.close(f)
PY
writer=$!
t_wait_for 20 held_sent 1
echo go >"$T/go"
wait "$writer"
"$FOREBAY" flush "$MNT" >/dev/null
held_sent 2 || true
cmp "$T/held" "$T/sent" || t_fail "written: $(cat "$T/held")
sent: $(cat "$T/sent")"
t_eq groups "$(t_status groups)" 0
t_umount
