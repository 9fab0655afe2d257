#!/bin/bash
# Faults of the cache's disk (must-hold 4): a scenario that touches every
# operation runs while one call on the cache directory fails, ENOSPC or EIO in
# turn: nothing acknowledged is lost, the daemon lives, all drains after it.
# A sample of the calls, for 20 seconds; FULL=1 takes every one, until a run
# meets no fault.  FIRST and SEED choose.
# timeout: 3600
. "$(dirname "$0")/../lib/common.sh"
t_begin

mkdir "$STORE/cold"
for i in $(seq 0 199); do echo "cold $i" >"$STORE/cold/f$i"; done
head -c 512 /dev/zero >"$T/plan"
DISK_FAULT=$T/plan LD_PRELOAD=$BUILD/tests/crash/disk_fault.so \
  "$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE,passthrough=off" ||
  t_fail "no mount"
restarts=$(t_status worker_restarts)
"$TOP/tests/crash/disk_sweep.py" "$MNT" "$STORE" "$T/plan" "$CACHE" \
  "$FOREBAY" "$([ -n "${FULL:-}" ] && echo yes || echo no)"
t_eq "restarts of the worker" "$(t_status worker_restarts)" "$restarts"
t_umount
