#!/bin/bash
# What an open, read and close of a local file cost the daemon, by counts: the
# backing id is kept after the last close (fs/warm.c), and given back when
# somebody needs the file for something else.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"

COUNT=200

# reads: read(2) and pread(2) calls of the worker so far: requests, and pages of
# the index.
reads() { awk '/^syscr/ { print $2 }' "/proc/$worker/io"; }
open_all() { cat "$MNT"/d/* >/dev/null; }
local_bytes() { t_status cache_bytes; }

t_begin
mkdir "$STORE/d"
for i in $(seq $COUNT); do echo "$i" >"$STORE/d/$i"; done
t_mount "dir:$STORE"
worker=$(t_status worker_pid)
[ "$(t_status passthrough)" = true ] || t_skip "no passthrough here"

t_claim "a second open asks neither the index nor the disk"
open_all
before=$(reads)
# Were one opened, or its row looked at and its file opened, it would fail.
find "$CACHE/data" -type f >"$T/files"
while read -r file; do mv "$file" "$T/away.${file##*/}"; done <"$T/files"
open_all || t_fail "an open went to the disk"
while read -r file; do mv "$T/away.${file##*/}" "$file"; done <"$T/files"
cost=$(($(reads) - before))
echo "$COUNT opens: $cost reads by the daemon"
# OPEN and RELEASE each; some attributes may have run out.
[ $cost -le $((COUNT * 5 / 2)) ] || t_fail "$cost reads for $COUNT opens"

# Files that were moved look changed.
t_umount
rm -rf "$CACHE"
t_mount "dir:$STORE"

t_claim "what was read and closed can be evicted"
open_all
open_all
"$FOREBAY" evict "$MNT/d" >/dev/null || t_fail "evict"
t_eq "local bytes" "$(local_bytes)" 0
open_all

t_claim "its blocks are free when it is deleted"
head -c $((64 * MiB)) /dev/zero >"$MNT/big"
"$FOREBAY" flush "$MNT"
cat "$MNT/big" >/dev/null
data=$(find "$CACHE/data" -size +60M)
[ -n "$data" ] || t_fail "no data file"
free=$(stat -f -c %f "$CACHE")
size=$(stat -f -c %S "$CACHE")
rm "$MNT/big"
"$FOREBAY" flush "$MNT"
gone() { [ ! -e "$data" ]; }
t_wait_for 10 gone
freed() { [ $((($(stat -f -c %f "$CACHE") - free) * size)) -gt $((32 * MiB)) ]; }
t_wait_for 10 freed

t_claim "a write after a read, a read after a write, a read after a rename"
for i in 1 2 3; do
  echo "new $i" >"$MNT/d/1"
  t_eq "content" "$(cat "$MNT/d/1")" "new $i"
  echo "newer $i" >"$MNT/d/tmp"
  cat "$MNT/d/tmp" >/dev/null
  mv "$MNT/d/tmp" "$MNT/d/1"
  t_eq "content" "$(cat "$MNT/d/1")" "newer $i"
  truncate -s 3 "$MNT/d/1"
  t_eq "content" "$(cat "$MNT/d/1")" "new"
done
"$FOREBAY" flush "$MNT"
t_eq "in the store" "$(cat "$STORE/d/1")" "new"

t_claim "changed by somebody else, it is read anew"
t_umount
t_mount "dir:$STORE" freshness=1
cat "$MNT/d/2" "$MNT/d/2" >/dev/null
echo other >"$STORE/d/2"
other() { [ "$(cat "$MNT/d/2")" = other ]; }
t_wait_for 10 other
t_umount
