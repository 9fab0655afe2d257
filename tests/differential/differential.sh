#!/bin/bash
# Random calls on a mount and on ext4: every answer is the same.  With FULL=1
# 1,000,000 calls over 52 seeds, on both kinds of store, whatever happens to the
# worker, the cache and the mount meanwhile (diff.h).
# SEED=N runs other sequences (CALLS= of each, SEEDS_NR= of them); MODES
# chooses of dir/auto dir/off blobd/auto blobd/off, SHAKES_NR the events.
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"
. "$TOP/tests/lib/blobd.sh"
t_begin

if [ -n "${FULL:-}" ]; then
  MODES=${MODES:-blobd/auto blobd/off dir/auto dir/off}
  SEEDS=13 CALLS=${CALLS:-20000} SHAKES=100 SEED=${SEED:-$(date +%s)}
else
  MODES=${MODES:-blobd/auto blobd/off}
  # Always the same: what is new is for soak to find.
  SEEDS=1 CALLS=${CALLS:-1200} SHAKES=0 SEED=${SEED:-300}
fi
SEEDS=${SEEDS_NR:-$SEEDS}

PLAIN=$T/plain
mkdir "$PLAIN"
case $(stat -f -c %T "$PLAIN") in
ext2/ext3) ;;
*) t_skip "compares with ext4; this disk is $(stat -f -c %T "$PLAIN")" ;;
esac
blobd_start

for mode in $MODES; do
  t_claim "$mode: $SEEDS times $CALLS calls from seed $SEED on, as on ext4"
  case $mode in
  dir/*) URL=dir:$STORE ;;
  blobd/*)
    blobd_container "diff$SEED" >/dev/null
    URL=$BLOBD_URL/diff$SEED
    ;;
  esac
  # Small, so that files are served while they are fetched; stale at once.
  OPTIONS=passthrough=${mode#*/},fetch_whole=64K,freshness=1
  export MNT CACHE URL OPTIONS KEEPER_FILE="$T/keeper"
  "$TOP/tests/differential/hook.sh" mount
  "$BUILD/tests/differential" "$MNT" "$PLAIN" --seed "$SEED" \
    --seeds "$SEEDS" --calls "$CALLS" --shakes "${SHAKES_NR:-$SHAKES}" \
    --shrink "${SHRINK:-60}" --hook "$TOP/tests/differential/hook.sh" ||
    t_fail "$mode: they differ"
  t_eq "$mode: conflicts" "$(t_status conflicts)" 0
  t_eq "$mode: set aside" "$(t_status set_aside)" 0
  "$TOP/tests/differential/hook.sh" flush
  t_umount
  rm -rf "$CACHE" "$STORE"
  mkdir "$STORE"
  SEED=$((SEED + SEEDS))
done
