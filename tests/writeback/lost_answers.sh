#!/bin/bash
# Requests that were applied and not answered, mixed with another writer's
# changes: nobody's update is lost, and no conflict is one that was none.
# FULL=1: 1,000 lost answers instead of 50.
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
TIMES=50
[ -z "${FULL:-}" ] || TIMES=1000
TIMES=${TIMES_NR:-$TIMES}
SEED=${SEED:-$([ -n "${FULL:-}" ] && date +%s || echo 1)}
blobd_start
blobd_container lost
export STORE_URL=$BLOBD_URL/lost BLOBD_PORT MNT MNT2=$T/mnt2 CACHE
export OPTIONS=freshness=0
t_mount "$STORE_URL" "$OPTIONS"
PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/lost_answers.py" \
  "$TIMES" "$SEED" || t_fail "see above"
t_umount
