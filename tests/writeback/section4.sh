#!/bin/bash
# WRITEBACK.md section 4, line by line: blocks, delta, strays, reading for
# upload, staging, server-side copies.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
blobd_start
blobd_container section4
export STORE_URL=$BLOBD_URL/section4 BLOBD_PORT MNT CACHE
export OPTIONS=freshness=1
export FOREBAY_TEST_REFUSE_WAIT_MS=400
t_mount "$STORE_URL" "$OPTIONS"
PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/section4.py" ||
  t_fail "see above"
t_umount
