#!/bin/bash
# Issue 4, must hold 5: what another tool wrote beside a blob's bytes survives
# our overwrite, append, chmod and rename; on blobd and on Azurite.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
. "$(dirname "$0")/../lib/azurite.sh"
t_begin
export STORE_URL MNT MNT2=$T/mnt2 CACHE OPTIONS=freshness=0

story() {
  "$TOP/tests/lib/azure_rest.py" "$STORE_URL" create-container
  rm -rf "$CACHE" "$CACHE.2"
  t_mount "$STORE_URL" "$OPTIONS"
  PYTHONDONTWRITEBYTECODE=1 python3 "$TOP/tests/writeback/foreign.py" ||
    t_fail "on $1: see above"
  t_umount
}

blobd_start
STORE_URL=$BLOBD_URL/foreign
BLOBD_PORT=$BLOBD_PORT story blobd
blobd_stop
if AZURITE_MEMORY=1 azurite_start "$T/azurite"; then
  STORE_URL=$AZURITE_URL/foreign
  story azurite
  azurite_stop
else
  [ $? = 77 ] || t_fail "Azurite"
fi
