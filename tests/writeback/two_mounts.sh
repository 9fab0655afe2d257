#!/bin/bash
# Two mounts on two cache directories write the same 200 names at random: each
# acknowledged version is the blob's, a conflict copy, or was replaced by one
# who could know it; both agree, and equal bytes are no conflict.
# FULL=1: for a minute.  SEED=n: other choices.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

SECONDS_EACH=${FULL:+60}
SECONDS_EACH=${SECONDS_EACH:-6}
SEED=${SEED:-$$}
two() { python3 "$TOP/tests/writeback/two_mounts.py" "$@"; }
flush() { "$FOREBAY" flush "$1" >"$T/flush.log" 2>&1 || t_fail "flush: $(cat "$T/flush.log")"; }

blobd_start
blobd_container two
MNT2=$T/mnt2
t_mount "$BLOBD_URL/two" freshness=1
MNT=$MNT2 CACHE=$T/cache2 t_mount "$BLOBD_URL/two" freshness=1

t_claim "two hosts write the same names (seed $SEED)"
two write "$MNT" a "$SECONDS_EACH" 200 "$SEED" "$T/a" &
one=$!
two write "$MNT2" b "$SECONDS_EACH" 200 "$SEED" "$T/b" || t_fail "b cannot write"
wait "$one" || t_fail "a cannot write"

t_claim "it drains on both"
flush "$MNT"
flush "$MNT2"
for m in "$MNT" "$MNT2"; do
  t_eq "pending of $m" "$(MNT=$m t_status pending)" 0
  t_eq "set aside of $m" "$(MNT=$m t_status set_aside)" 0
done

t_claim "nothing is lost, nothing is a conflict that was none, both agree"
sleep 1.1 # freshness
blobd_log >"$T/log"
two check "$T/log" "$T/a" "$MNT" "$T/b" "$MNT2" || t_fail "seed $SEED"
