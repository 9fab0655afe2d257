#!/bin/sh
# The life of a mount, and the commands that talk to it (DESIGN section 13,
# issue 3 must hold 12).
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

t_begin
is_mounted() { mountpoint -q "$1"; }
is_unmounted() { ! mountpoint -q "$1"; }
status_is() { [ "$(t_status "$1")" = "$2" ]; }
# Milliseconds that a command took, into $took.
took() {
  t_start=$(date +%s%3N)
  "$@"
  took=$(($(date +%s%3N) - t_start))
}
gone_or_zombie() {
  [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

mkdir -p "$STORE/tree/a" "$STORE/tree/b"
for i in 1 2 3 4 5 6 7 8; do echo "$i" >"$STORE/tree/a/$i"; done
t_random "$STORE/tree/b/large" $((20 * MiB))
t_mount "dir:$STORE"

t_claim "status --json has the keys that scripts are promised"
for key in store mountpoint state keeper_pid worker_pid worker_restarts \
  cache_bytes cache_limit_bytes dirty_bytes dirty_files oldest_dirty_s pending \
  conflicts set_aside hit_bytes miss_bytes; do
  t_status $key >/dev/null || t_fail "no key $key"
done
t_eq store "$(t_status store)" "dir:$STORE"
t_eq mountpoint "$(t_status mountpoint)" "$MNT"
t_eq state "$(t_status state)" online
"$FOREBAY" status | grep -q "^$MNT: dir:$STORE, online" || t_fail "status"
"$FOREBAY" status --json | jq -e --arg m "$MNT" \
  'map(select(.mountpoint == $m)) | length == 1' >/dev/null || t_fail "list"

t_claim "a create that is refused leaves no data file"
data_files() { find "$CACHE/data" -type f | wc -l; }
files=$(data_files)
if touch "$MNT/.forebay" 2>/dev/null; then t_fail "a reserved name"; fi
t_eq "data files" "$(data_files)" "$files"

t_claim "what mount(8) shows is the store, its type, and safe flags"
grep "^dir:$STORE $MNT fuse.forebay " /proc/mounts |
  grep -q 'nosuid,nodev.*default_permissions,allow_other' || t_fail "mounts"

t_claim "the daemon's secrets are nobody's, and its descriptors many"
t_eq "hard limit of files" \
  "$(awk '/Max open files/ { print $4 }' "/proc/$(t_status worker_pid)/limits")" \
  "$(awk '/Max open files/ { print $5 }' "/proc/$(t_status worker_pid)/limits")"

t_claim "the socket is root's"
sock=/run/forebay/$(t_status device).sock
t_eq "mode of $sock" "$(stat -c %a:%u "$sock")" 600:0

t_claim "prefetch says how much is local, makes it so, and says it again"
"$FOREBAY" prefetch "$MNT/tree" --meta | grep -q '9 files, 20.0 MiB' ||
  t_fail "--meta"
"$FOREBAY" prefetch "$MNT/tree" --check --json >"$T/json"
t_eq "files local before" "$(jq .files_local "$T/json")" 0
"$FOREBAY" prefetch "$MNT/tree" --json >"$T/json"
t_eq "files done" "$(jq .files_done "$T/json")" 9
t_eq "bytes fetched" "$(jq .fetched_bytes "$T/json")" $((20 * MiB + 16))
"$FOREBAY" prefetch "$MNT/tree" --json >"$T/json"
t_eq "bytes fetched again" "$(jq .fetched_bytes "$T/json")" 0
"$FOREBAY" prefetch "$MNT/tree" --check | grep -q '^9 of 9 files' ||
  t_fail "--check"
cmp "$STORE/tree/b/large" "$MNT/tree/b/large"

t_claim "evict drops what is clean, pin holds it"
"$FOREBAY" pin "$MNT/tree/a"
"$FOREBAY" evict "$MNT/tree" --json >"$T/json"
t_eq "files dropped" "$(jq .files "$T/json")" 1
t_eq "files kept" "$(jq .kept_pinned "$T/json")" 8
if "$FOREBAY" evict "$MNT/tree/a/1" 2>"$T/err"; then t_fail "it was pinned"; fi
grep -q 'pinned.*unpin' "$T/err" || t_fail "$(cat "$T/err")"
"$FOREBAY" unpin "$MNT/tree/a"
"$FOREBAY" evict "$MNT/tree/a/1" "$MNT/tree/a"
"$FOREBAY" prefetch "$MNT" --check --json >"$T/json"
t_eq "files local" "$(jq .files_local "$T/json")" 0

t_claim "--from reads names, absolute and relative, from a file and a pipe"
printf '%s\n' "$MNT/tree/a/1" tree/a/2 ./tree/b/../a/3 >"$T/names"
(cd "$MNT" && "$FOREBAY" prefetch --from "$T/names" --json) >"$T/json"
t_eq "files done" "$(jq .files_done "$T/json")" 3
(cd "$MNT" && "$FOREBAY" prefetch --from - --json <"$T/names") >"$T/json"
t_eq "fetched again" "$(jq .fetched_bytes "$T/json")" 0
echo "$MNT/nope" >>"$T/names"
if (cd "$MNT" && "$FOREBAY" prefetch --from "$T/names") >/dev/null 2>"$T/err"
then t_fail "a name that is not there was fetched"; fi
grep -q 'nope: No such file' "$T/err" || t_fail "$(cat "$T/err")"

t_claim "a name that is no UTF-8 works as well"
bad=$(printf 'bad\377name')
echo x >"$MNT/$bad"
"$FOREBAY" flush "$MNT/$bad"
"$FOREBAY" pin "$MNT/$bad"
if "$FOREBAY" evict "$MNT/$bad" 2>/dev/null; then t_fail "not pinned"; fi
"$FOREBAY" unpin "$MNT/$bad"
"$FOREBAY" evict "$MNT/$bad" >/dev/null
t_eq "content" "$(cat "$MNT/$bad")" x

t_claim "a prefetch in the background ends by itself"
"$FOREBAY" prefetch "$MNT/tree" --background
all_local() { "$FOREBAY" prefetch "$MNT/tree" --check | grep -q '^9 of 9'; }
t_wait_for 20 all_local
t_wait_for 5 status_is jobs 0

t_claim "the mount is found through a bind mount of a part of it"
mkdir "$T/bind"
mount --bind "$MNT/tree/a" "$T/bind"
"$FOREBAY" evict "$T/bind" --json >"$T/json"
t_eq "files dropped" "$(jq .files "$T/json")" 8
"$FOREBAY" prefetch "$T/bind/3" --json >"$T/json"
t_eq "files done" "$(jq .files_done "$T/json")" 1
"$FOREBAY" status "$T/bind" >/dev/null
umount "$T/bind"

t_claim "paths elsewhere are refused in one line"
for command in flush pin unpin evict prefetch status conflicts; do
  status=0
  "$FOREBAY" $command "$T" >/dev/null 2>"$T/err" || status=$?
  t_eq "status of $command" $status 1
  t_eq "lines of $command" "$(wc -l <"$T/err")" 1
done

t_claim "flush waits until the store has it"
t_random "$MNT/new" $((5 * MiB))
"$FOREBAY" flush "$MNT/new"
cmp "$MNT/new" "$STORE/new"
"$FOREBAY" conflicts "$MNT" | grep -q 'no conflicts' || t_fail "conflicts"

t_claim "umount refuses a mount in use, and says so"
exec 9<"$MNT/new"
if "$FOREBAY" umount "$MNT" 2>"$T/err"; then t_fail "it was in use"; fi
grep -q 'in use' "$T/err" || t_fail "$(cat "$T/err")"
is_mounted "$MNT"
exec 9<&-

t_claim "umount returns when the daemon is gone; the socket too"
keeper=$(t_status keeper_pid)
"$FOREBAY" umount "$MNT"
gone_or_zombie "$keeper" || t_fail "the keeper is there"
[ ! -e "$sock" ] || t_fail "the socket is there"
if "$FOREBAY" umount "$MNT" 2>/dev/null; then t_fail "nothing was mounted"; fi

t_claim "plain umount works too"
t_mount "dir:$STORE"
keeper=$(t_status keeper_pid)
umount "$MNT"
t_wait_for 5 gone_or_zombie "$keeper"

t_claim "in the foreground it logs to stderr and ends at Ctrl-C"
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE" -f 2>"$T/log" &
pid=$!
t_wait_for 10 is_mounted "$MNT"
t_wait_for 10 status_is state online
grep -q "mounted dir:$STORE" "$T/log" || t_fail "$(cat "$T/log")"
kill -INT $pid
wait $pid || t_fail "exit status of -f"
is_unmounted "$MNT" || t_fail "still mounted"

t_claim "SIGTERM ends it within 5 s, though a file is open"
t_mount "dir:$STORE"
keeper=$(t_status keeper_pid)
exec 9<"$MNT/new"
kill -TERM "$keeper"
t_wait_for 5 gone_or_zombie "$keeper"
exec 9<&-
is_unmounted "$MNT" || t_fail "still mounted"

t_claim "a worker that dies is replaced, and nobody notices"
t_mount "dir:$STORE"
keeper=$(t_status keeper_pid)
exec 9<"$MNT/new"
kill -KILL "$(t_status worker_pid)"
cmp "$MNT/new" /dev/fd/9 || t_fail "the open file"
exec 9<&-
t_wait_for 5 t_status worker_restarts >/dev/null
t_eq restarts "$(t_status worker_restarts)" 1
t_eq keeper "$(t_status keeper_pid)" "$keeper"

t_claim "five that die at once end the mount, and leave no dead one"
kill_again() {
  pkill -KILL -P "$keeper" || true
  gone_or_zombie "$keeper"
}
t_wait_for 60 kill_again
is_unmounted "$MNT" || t_fail "still mounted"
ls "$MNT" >/dev/null || t_fail "the mount point does not answer"

t_claim "a dead mount at the mount point is detached first"
t_mount "dir:$STORE"
keeper=$(t_status keeper_pid)
worker=$(t_status worker_pid)
# Neither may live to see the other's death.
kill -STOP "$keeper"
kill -KILL "$worker"
kill -KILL "$keeper"
is_dead() { ! ls "$MNT" >/dev/null 2>&1; }
t_wait_for 5 is_dead
t_mount "dir:$STORE"
t_eq "mounts there" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
[ -f "$MNT/new" ] || t_fail "not mounted"

t_claim "a keeper that dies takes the mount with it"
worker=$(t_status worker_pid)
kill -KILL "$(t_status keeper_pid)"
t_wait_for 6 gone_or_zombie "$worker"
ls "$MNT" >/dev/null || t_fail "the mount point does not answer"
is_unmounted "$MNT" || t_fail "still mounted"

t_claim "mount.forebay takes what mount(8) and fstab give it"
ln -s "$FOREBAY" "$T/mount.forebay"
"$T/mount.forebay" "dir:$STORE" "$MNT" -n -v -t forebay \
  -o "rw,noauto,nofail,_netdev,x-systemd.automount,noatime,exec,cache=$CACHE"
grep " $MNT fuse.forebay" /proc/mounts | grep -q noatime || t_fail "noatime"
t_umount
"$T/mount.forebay" "dir:$STORE" "$MNT" -f -o "cache=$CACHE"
is_unmounted "$MNT" || t_fail "-f mounted it"
"$T/mount.forebay" "dir:$STORE" "$MNT" -s -o "whatever,cache=$CACHE"
t_umount

t_claim "a read-only mount writes nothing"
t_mount "dir:$STORE" ro
if touch "$MNT/x" 2>/dev/null; then t_fail "it wrote"; fi
t_umount

[ -x "$BLOBD" ] || { echo "no blobd: the rest is not tested" && exit 0; }
blobd_start
blobd_seed container=box prefix=cold/ count=1 size=1000 >/dev/null
CACHE=$T/cache2

t_claim "with the store away, umount is at once, and what is owed is said"
t_mount "$BLOBD_URL/box" store_timeout=3
echo first >"$MNT/first"
"$FOREBAY" flush "$MNT"
blobd_down >/dev/null
echo second >"$MNT/second"
keeper=$(t_status keeper_pid)
took "$FOREBAY" umount "$MNT" >"$T/out"
t_took $took 5000 umount
grep -q '1 changes.*owed' "$T/out" || t_fail "$(cat "$T/out")"
gone_or_zombie "$keeper" || t_fail "the daemon is there"

t_claim "... and the next mount sends it"
blobd_up >/dev/null
t_mount "$BLOBD_URL/box" store_timeout=3
"$FOREBAY" flush "$MNT"
blobd_log | grep -q '"name":"second"' || t_fail "it was not sent"

t_claim "what waits for the store ends at Ctrl-C"
ls -l "$MNT/cold" >/dev/null
cold=$(ls "$MNT/cold")
blobd_hook op=any >/dev/null
echo third >"$MNT/third"
# A shell lets what it starts in the background ignore Ctrl-C.
env --default-signal=INT "$FOREBAY" flush "$MNT" >/dev/null 2>&1 &
flush=$!
env --default-signal=INT cat "$MNT/cold/$cold" >/dev/null 2>&1 &
reader=$!
is_held() { [ "$(blobd_held)" -ge 2 ]; }
t_wait_for 10 is_held
kill -0 $flush || t_fail "flush did not wait"
kill -0 $reader || t_fail "cat did not wait"
kill -INT $flush $reader
t_wait_for 2 gone_or_zombie $flush
t_wait_for 2 gone_or_zombie $reader

t_claim "... and SIGTERM does not wait for the store"
keeper=$(t_status keeper_pid)
kill -TERM "$keeper"
t_wait_for 5 gone_or_zombie "$keeper"
blobd_release >/dev/null
is_unmounted "$MNT" || t_fail "still mounted"

t_claim "umount --drain waits for the store"
t_mount "$BLOBD_URL/box" store_timeout=3
echo fourth >"$MNT/fourth"
"$FOREBAY" umount "$MNT" --drain >"$T/out"
! grep -q owed "$T/out" || t_fail "$(cat "$T/out")"
blobd_log | grep -q '"name":"fourth"' || t_fail "it was not sent"
blobd_stop
