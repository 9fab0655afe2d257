#!/bin/bash
# WRITEBACK.md section 3, line by line: lost answers, rescues, conditions, and
# what may yet come.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
blobd_start
blobd_container section3
export STORE_URL=$BLOBD_URL/section3 BLOBD_PORT MNT MNT2=$T/mnt2 CACHE
# The service takes no request that is fifteen minutes old; here it does after
# less.
export FOREBAY_TEST_SENT_EXPIRY_MS=3000
export OPTIONS=freshness=1,store_timeout=2
t_mount "$STORE_URL" "$OPTIONS"
PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/section3.py" ||
  t_fail "see above"
t_umount
