#!/bin/bash
# Order under load: three programs at once on one mount, the store 20 ms away.
# Checkpoints with a pointer file, a git repository that is committed to, and a
# tree of small files: what the store applied is read back from blobd's log.
#   FULL=1: two minutes and 10,000 files, instead of five seconds and 500
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

SECONDS_=5 FILES=500
if [ -n "${FULL:-}" ]; then
  SECONDS_=120 FILES=10000
fi
LOAD=$TOP/tests/mount/order_load.py

t_begin
command -v git >/dev/null || t_skip "needs git"
blobd_start --latency-ms 20
blobd_container load >/dev/null
t_mount "$BLOBD_URL/load"

t_claim "checkpoints, commits and a copied tree, $SECONDS_ s at once"
mkdir "$T/tree"
python3 - "$T/tree" $FILES <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
for i in range(count):
    d = f"{top}/d{i // 100:03d}"
    os.makedirs(d, exist_ok=True)
    with open(f"{d}/f{i:05d}", "wb") as f:
        f.write(os.urandom(200 + i % 3000))
PY
"$LOAD" checkpoints "$MNT" "$T/did" $SECONDS_ &
checkpoints=$!
"$LOAD" git "$MNT/repo" $SECONDS_ &
git=$!
# What rsync does: each file under a temporary name, renamed when it is whole.
if command -v rsync >/dev/null; then
  rsync -a "$T/tree/" "$MNT/tree/" &
else
  "$LOAD" copy "$T/tree" "$MNT/tree" &
fi
copy=$!
wait $checkpoints || t_fail "the writer of checkpoints failed"
wait $git || t_fail "git failed"
wait $copy || t_fail "the copy failed"
git -C "$MNT/repo" fsck --strict >/dev/null 2>&1 || t_fail "git fsck"

t_claim "it drains, and no pointer was there before what it names"
begin=$(date +%s%3N)
"$FOREBAY" flush "$MNT" >/dev/null
echo "drained in $(($(date +%s%3N) - begin)) ms, $(t_status groups) groups"
t_eq pending "$(t_status pending)" 0
t_eq conflicts "$(t_status conflicts)" 0
t_umount
blobd_log >"$T/log"
"$LOAD" check "$T/did" "$T/log" $FILES
