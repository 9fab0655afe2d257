#!/bin/sh
# What a program sees of the file system's calls: errno, times, counts, holes,
# names, rights.  posix.py says it line by line, of ext4 and of a mount; every
# difference that does not stand here with its reason is a failure.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
t_begin

# Lines that may differ from the disk's: a pattern, and behind it the reason.
cat >"$T/reasons" <<'REASONS'
rename\.exchange\.(dir|full)\.  two trees of blobs cannot change places
rename\.exchange\.(file|link)\.(dir|full)[.:]  nor a tree and a blob
rename\.exchange_dirs  nor these two
space\.blocks_small  st_blocks follows from the size (cp and tar trust it)
space\.falloc_(collapse|insert)  the kernel refuses them for FUSE
space\.content_has_2  follows from the two above
space\.seek_dir_data  the kernel answers for FUSE directories
open\.tmpfile  needs link(2)
open\.(mkfifo|mknod_.*|link|.*xattr)[:]  calls of a later issue
deep\.beyond  a blob's name ends at 1,024 characters, a dir: name at PATH_MAX
deep\.here  follows from it
REASONS
sed 's/^\([^ ]*\) .*/^[<>] \1/' "$T/reasons" >"$T/patterns"

plain=$T/plain
mkdir "$plain"
case $(stat -f -c %T "$plain") in
ext2/ext3) ;;
*) t_skip "compares with ext4; this disk is $(stat -f -c %T "$plain")" ;;
esac
posix() { "$TOP/tests/mount/posix.py" "$@"; }
posix "$plain" >"$T/plain.out"

# compare STORE OPTIONS [once]: what a mount answers, and what a second host that
# mounts the same store then sees (not with `once`).
compare() {
  rm -rf "$CACHE" "$CACHE.2"
  t_mount "$1" "$2"
  posix "$MNT" >"$T/mount.out"
  diff "$T/plain.out" "$T/mount.out" | grep '^[<>]' |
    grep -v -E -f "$T/patterns" >"$T/differences" || true
  if [ -s "$T/differences" ]; then
    cat "$T/differences"
    t_fail "$1 $2: $(wc -l <"$T/differences") lines differ" \
      "(<: ext4, >: the mount)"
  fi
  if [ -n "${3:-}" ]; then
    "$FOREBAY" umount "$MNT"
    return
  fi
  posix --tree "$MNT" >"$T/tree"
  "$FOREBAY" flush "$MNT" || t_fail "flush"
  t_eq "owed after a flush" "$(t_status pending)" 0
  t_umount
  CACHE=$CACHE.2 t_mount "$1" "$2"
  posix --tree "$MNT" >"$T/tree2"
  diff "$T/tree" "$T/tree2" >"$T/differences" || {
    cut -c1-200 "$T/differences"
    t_fail "$1 $2: another host sees another tree"
  }
  t_umount
}

t_claim "a mount of a dir: store answers as ext4 does; so does a second host"
compare "dir:$STORE" ""

t_claim "so does a mount without passthrough, but that a file being written is data"
rm -rf "$STORE" && mkdir "$STORE"
# What was stored to a mapping may be in the kernel's pages only.
cp "$T/patterns" "$T/patterns.all"
echo '^[<>] space\.holes\.' >>"$T/patterns"
compare "dir:$STORE" passthrough=off once
mv "$T/patterns.all" "$T/patterns"

t_claim "so does a mount of a blob service"
. "$(dirname "$0")/../lib/blobd.sh"
blobd_start
blobd_container posix
compare "$BLOBD_URL/posix" ""
blobd_stop

echo "$(wc -l <"$T/plain.out") answers compared, thrice"
