#!/bin/bash
# The cache's file system is full while checkpoints are written, by root and by
# another user (must-hold 8): opens do not wait, new writers get ENOSPC at write
# or fsync, never a success that is not true; reads and the index go on; space
# comes back by itself.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
command -v mkfs.ext4 >/dev/null || t_skip "no mkfs.ext4 here"
[ -e /dev/loop-control ] || t_skip "no loop devices here"

DISK=$T/disk
mkdir "$DISK"
truncate -s "$([ -n "${FULL:-}" ] && echo 4G || echo 192M)" "$T/image"
mkfs.ext4 -q -F "$T/image"
mount -o loop "$T/image" "$DISK"
CACHE=$DISK/cache
chmod 755 "$T"
blobd_start
blobd_seed container=full prefix=old/ count=20 size=20000
t_mount "$BLOBD_URL/full" store_timeout=3
cat "$MNT"/old/* | md5sum >"$T/sum"
mkdir "$MNT/root" "$MNT/user"
chown nobody "$MNT/user"
as_user() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }
blobd_down

# checkpoints DIR PREFIX...: temp, fsync, rename until it fails; lists what
# was acknowledged, and how long the slowest open took.
cat >"$T/writer.py" <<'P'
import errno, hashlib, os, sys, time
where, log = sys.argv[1:3]
slowest = 0
for i in range(10000):
    tmp, name = "%s/tmp%d" % (where, i), "%s/ckpt%d" % (where, i)
    data = os.urandom(1 << 20) * 6
    try:
        t = time.monotonic()
        fd = os.open(tmp, os.O_CREAT | os.O_WRONLY, 0o644)
        slowest = max(slowest, time.monotonic() - t)
        try:
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:done + (1 << 20)])
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(tmp, name)
        with open(log, "a") as f:
            f.write("%s  %s\n" % (hashlib.md5(data).hexdigest(), name))
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        print("ENOSPC after %d, slowest open %.2f s" % (i, slowest))
        sys.exit(0 if slowest < 2 else 1)
sys.exit("never full")
P
chmod 755 "$T/writer.py"
touch "$T/log.root" "$T/log.user"
chown nobody "$T/log.user"

t_claim "full: writers get ENOSPC, at write or fsync"
timeout 120 python3 "$T/writer.py" "$MNT/root" "$T/log.root" &
first=$!
timeout 120 setpriv --reuid=nobody --regid=nogroup --clear-groups \
  /usr/bin/python3 "$T/writer.py" "$MNT/user" "$T/log.user" ||
  t_fail "the user's writer"
wait $first || t_fail "root's writer"
cat "$T"/log.* >"$T/log"
[ -s "$T/log" ] || t_fail "nothing was written at all"

t_claim "reads go on, and so does the index"
cat "$MNT"/old/* | md5sum | cmp -s - "$T/sum" || t_fail "reads"
for i in $(seq 200); do mkdir "$MNT/d$i" || t_fail "mkdir $i"; done
md5sum --quiet -c "$T/log" || t_fail "an acknowledged file is not whole"
ls -lR "$MNT" >/dev/null

t_claim "space comes back by itself, and all of it is in the store"
blobd_up
t_wait_for 60 sh -c "[ \$('$FOREBAY' status '$MNT' --json | jq .pending) = 0 ]"
md5sum --quiet -c "$T/log" || t_fail "not whole after the drain"
t_wait_for 30 sh -c "head -c 20000000 /dev/zero >'$MNT/again' && sync '$MNT/again'"
"$FOREBAY" flush "$MNT"
"$FOREBAY" evict "$MNT" >/dev/null || true
md5sum --quiet -c "$T/log" || t_fail "the store does not have it"
t_eq "set aside" "$(t_status set_aside)" 0
t_umount
umount "$DISK"
