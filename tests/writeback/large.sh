#!/bin/bash
# Issue 4, must hold 4: a large file changed in one place uploads one block.
# 512 MiB here, 20 GiB with FULL=1.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
blobd_start
blobd_container large
export STORE_URL=$BLOBD_URL/large BLOBD_PORT MNT MNT2=$T/mnt2 CACHE
export OPTIONS=freshness=1
SIZE=$((512 * MiB))
[ -z "${FULL:-}" ] || SIZE=$((20 * GiB))
export SIZE
t_mount "$STORE_URL" "$OPTIONS"
PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/large.py" ||
  t_fail "see above"
t_umount
