#!/bin/bash
# Siblings fetched ahead (tier/ahead.c), by counts: how many requests, how many
# opens that waited, what was fetched for nothing.
#   FULL=1: 10,000 files instead of 1,000
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

COUNT=1000 SIZE=3000
[ -z "${FULL:-}" ] || COUNT=10000

# at_least KEY NUMBER: of status.
at_least() { [ "$(t_status "$1")" -ge "$2" ]; }
# ended: no flight is under way, and nothing new has come meanwhile.
ended() {
  ended_gets=$(blobd_count get)
  sleep 0.2
  [ "$(blobd_count get)" = "$ended_gets" ]
}
# name N: of the N-th seeded file.
name() { printf 'f%07d' "$1"; }
# read_them DIR NUMBER...
read_them() (
  cd "$MNT/$1"
  shift
  for n; do cat "$(name "$n")" >/dev/null; done
)
# begin CONTAINER OPTIONS: a fresh cache on it; the names are known.
begin() {
  t_mount "$BLOBD_URL/$1" "$2"
  ls "$MNT/d" >/dev/null
  blobd_counts_reset >/dev/null
}
finish() {
  t_umount
  rm -rf "$CACHE"
}

t_begin
blobd_start
blobd_seed container=files prefix=d/ "count=$COUNT" "size=$SIZE" depth=0 >/dev/null
blobd_seed container=two prefix=d/ count=40 "size=$MiB" depth=0 >/dev/null
blobd_seed container=two prefix=e/ count=40 "size=$MiB" depth=0 >/dev/null

t_claim "two files are chance, with the third its siblings come, unasked"
begin files ""
read_them d 0 1
t_wait_for 10 ended
t_eq "data requests" "$(blobd_count get)" 2
read_them d 2
t_wait_for 10 at_least ahead_files 24
t_wait_for 10 ended
t_eq "data requests" "$(blobd_count get)" 27
blobd_reads | jq -e --arg first "files/d/$(name 3)" --arg last \
  "files/d/$(name 26)" 'has($first) and has($last)' >/dev/null ||
  t_fail "other files than the next ones"

t_claim "they are opened without waiting, and more come for them"
waits=$(t_status store_waits)
read_them d $(seq 3 26)
t_eq "opens that waited" "$(t_status store_waits)" "$waits"
t_eq "files that came ahead and were used" "$(t_status ahead_used)" 24
t_wait_for 10 at_least ahead_files 100
finish

t_claim "a slow store: a reader in order has others on the way for it"
begin files ""
blobd_latency 20 >/dev/null
start=$(date +%s%3N)
"$BUILD/tests/mount/content" tree "$MNT" "" 1 $SIZE
took=$(($(date +%s%3N) - start))
blobd_latency 0 >/dev/null
t_eq "data requests" "$(blobd_count get)" "$COUNT"
ahead=$(t_status ahead_files) most=$(blobd_counts | jq .under_way_max)
echo "$COUNT files in $took ms, $ahead of them ahead, up to $most at a time"
[ "$ahead" -ge $((COUNT * 9 / 10)) ] || t_fail "only $ahead came ahead"
[ "$most" -ge 16 ] || t_fail "at most $most requests at a time"
t_took "$took" $((COUNT * 20 / 3)) "no faster than one by one"
finish

t_claim "in another order, too"
begin files ""
blobd_latency 20 >/dev/null
start=$(date +%s%3N)
# shellcheck disable=SC2046 # a list of numbers
read_them d $(seq 0 $((COUNT - 1)) | shuf --random-source=<(yes))
took=$(($(date +%s%3N) - start))
blobd_latency 0 >/dev/null
t_eq "data requests" "$(blobd_count get)" "$COUNT"
waits=$(t_status store_waits)
echo "$COUNT files in $took ms, $waits of them waited for"
[ "$waits" -lt $((COUNT / 3)) ] || t_fail "$waits of $COUNT waited"
finish

t_claim "who reads little, anywhere, costs little"
begin files ""
read_them d 900 17 400 733 209
t_wait_for 10 ended
gets=$(blobd_count get)
echo "5 files read, $gets fetched"
[ "$gets" -le 45 ] || t_fail "$gets fetched for 5"
finish

t_claim "who takes every tenth in order is left alone soon"
begin files ""
read_them d $(seq 0 10 $((COUNT - 1)))
t_wait_for 10 ended
gets=$(blobd_count get)
echo "$((COUNT / 10)) files read, $gets fetched"
[ "$gets" -le 720 ] || t_fail "$gets fetched for $((COUNT / 10))"
finish

t_claim "nothing is evicted for it"
begin two cache_size=64M
read_them d $(seq 0 39)
t_wait_for 10 ended
used=$(t_status cache_bytes)
[ "$used" -ge $((40 * MiB)) ] || t_fail "only $used bytes are local"
blobd_counts_reset >/dev/null
read_them e 0 1 2 3
t_wait_for 10 at_least ahead_files 40
t_wait_for 10 ended
echo "$(blobd_count get) of 40 fetched, $(t_status cache_bytes) bytes in use"
"$FOREBAY" prefetch --check "$MNT/d" --json >"$T/check" || true
t_eq "files of the other directory" "$(jq -s '.[-1].files_local' "$T/check")" 40
finish

t_claim "read_ahead=0: nothing comes unasked"
begin files read_ahead=0
read_them d 0 1 2 3 4 5 6 7
t_wait_for 10 ended
t_eq "data requests" "$(blobd_count get)" 8
finish
