#!/bin/sh
# sanitize: yes
# Several processes write, rename, map and delete at once: the mount is always
# what they made it, and so is the store in the end.
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
t_begin

SECONDS_EACH=6
[ -z "${FULL:-}" ] || SECONDS_EACH=120
SEED=${SEED:-$(date +%s)}
echo "seed $SEED"

run() {
  t_mount "dir:$STORE" "$1"
  python3 "$TOP/tests/mount/stress.py" "$MNT/stress" "$SECONDS_EACH" 4 "$SEED" ||
    t_fail "the mount is not what the programs made it"
  "$FOREBAY" flush "$MNT"

  t_claim "the store ends up as the mount is, and nobody lost a race"
  diff -r --no-dereference -x .forebay "$MNT" "$STORE" || t_fail "they differ"
  t_eq conflicts "$(t_status conflicts)" 0
  t_eq "set aside" "$(t_status set_aside)" 0

  t_claim "and so does the mount that comes back"
  t_umount
  t_mount "dir:$STORE" "$1"
  diff -r --no-dereference -x .forebay "$MNT" "$STORE" || t_fail "they differ"
  rm -rf "$MNT/stress"
  t_umount --drain
}

t_claim "passed through, every call does what it should"
run passthrough=auto
t_claim "served, every call does what it should"
run passthrough=off
