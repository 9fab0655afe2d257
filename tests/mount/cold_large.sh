#!/bin/sh
# A large cold file: every byte right with one reader, with 16 at random places
# and mapped, each byte fetched at most once; then passthrough, with no request
# to the daemon: it is stopped, and the file reads on.
#   FULL=1: 4 GiB instead of 400 MiB
# timeout: 900
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

CONTENT=$BUILD/tests/mount/content
SIZE=$((400 * MiB + 12345))
[ -z "${FULL:-}" ] || SIZE=$((4 * GiB))

# fetched_once BLOB: each byte was answered once, and all of them.
fetched_once() {
  blobd_reads "*/$1" | jq -c . >"$T/reads"
  bytes=$(jq '[.. | objects | select(has("bytes")) | .bytes] | add // 0' \
    "$T/reads")
  covered=$(jq '[.. | objects | select(has("ranges")) | .ranges[][1]]
    | add // 0' "$T/reads")
  echo "$1: $bytes bytes answered in $(blobd_count get) requests"
  t_eq "bytes of $1 that the store answered" "$bytes" "$SIZE"
  t_eq "different bytes among them" "$covered" "$SIZE"
}

# The daemon's processes.
daemon() { echo "$(t_status keeper_pid) $(t_status worker_pid)"; }

cold() {
  how=$1
  shift
  blobd_seed_large container=large "name=$how.bin" "size=$SIZE" >/dev/null
  blobd_counts_reset >/dev/null
  t_mount "$BLOBD_URL/large" "$opts"
  t_claim "$how: a cold file reads right"
  "$CONTENT" "$how" "$MNT/$how.bin" "$how.bin" "$@"
  t_claim "$how: each byte is fetched at most once"
  fetched_once "$how.bin"
  t_claim "$how: warm, it reads right with nothing fetched"
  "$CONTENT" seq "$MNT/$how.bin" "$how.bin" direct
  fetched_once "$how.bin"
}

t_begin
opts=
blobd_start
blobd_container large >/dev/null

cold seq
t_claim "whole: reads and mappings go on with the daemon stopped"
# shellcheck disable=SC2046 # pids
"$CONTENT" stopped "$MNT/seq.bin" seq.bin 60 $(daemon) ||
  t_fail "a whole file needs the daemon: it is not passthrough"
[ "$(t_status passthrough)" = true ] || t_fail "status says no passthrough"
t_umount

t_claim "a mount after that has it in passthrough at once, the store gone"
blobd_down >/dev/null
t_mount "$BLOBD_URL/large"
# shellcheck disable=SC2046
"$CONTENT" stopped "$MNT/seq.bin" seq.bin 60 $(daemon)
blobd_up >/dev/null
t_umount

t_claim "without passthrough the same reads need the daemon (the proof proves)"
t_mount "$BLOBD_URL/large" passthrough=off
status=0
# shellcheck disable=SC2046
"$CONTENT" stopped "$MNT/seq.bin" seq.bin 1 $(daemon) || status=$?
t_eq "served, with the daemon stopped" $status 3
"$CONTENT" seq "$MNT/seq.bin" seq.bin
t_umount
rm -rf "$CACHE"

cold random 16
t_umount
rm -rf "$CACHE"
cold mmap
t_umount
