#!/bin/bash
# WRITEBACK.md section 4, line by line: blocks, delta, strays, reading for
# upload, staging, server-side copies; on blobd, and on Azurite what it shows.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
. "$(dirname "$0")/../lib/azurite.sh"
t_begin
export STORE_URL MNT CACHE OPTIONS=freshness=1
export FOREBAY_TEST_REFUSE_WAIT_MS=400

story() {
  "$TOP/tests/lib/azure_rest.py" "$STORE_URL" create-container
  rm -rf "$CACHE"
  t_mount "$STORE_URL" "$OPTIONS"
  PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/section4.py" ||
    t_fail "on $1: see above"
  t_umount
}

blobd_start
STORE_URL=$BLOBD_URL/section4
BLOBD_PORT=$BLOBD_PORT story blobd
blobd_stop
if AZURITE_MEMORY=1 azurite_start "$T/azurite"; then
  STORE_URL=$AZURITE_URL/section4
  story azurite
  azurite_stop
else
  [ $? = 77 ] || t_fail "Azurite"
fi
