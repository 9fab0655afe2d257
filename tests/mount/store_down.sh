#!/bin/bash
# The store is away: local files go on, writes are accepted up to dirty_limit,
# a miss fails within store_timeout, a mount comes up on what is local, and
# everything goes on by itself when the store is back.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

TIMEOUT=3
LIMIT=40M # dirty_limit
URL() { echo "$BLOBD_URL/down"; }
rest() { "$TOP/tests/lib/azure_rest.py" "$(URL)" "$@"; }
ms() { date +%s%3N; }
# within MS COMMAND...: it succeeds in that time.
within() {
  local limit=$1 begin
  shift
  begin=$(ms)
  "$@" >/dev/null || t_fail "$*"
  t_took $(($(ms) - begin)) "$limit" "$*"
}
# fails_with TEXT MS COMMAND...: with that error, in that time.
fails_with() {
  local text=$1 limit=$2 begin took
  shift 2
  begin=$(ms)
  if "$@" >/dev/null 2>"$T/error"; then t_fail "$*: no error"; fi
  took=$(($(ms) - begin))
  grep -q "$text" "$T/error" || t_fail "$*: $(cat "$T/error")"
  t_took $took "$limit" "$*"
  echo "  $* : $text after $took ms"
}
offline() { [ "$(t_status state)" = offline ]; }
online() { [ "$(t_status state)" = online ]; }
OPTIONS=store_timeout=$TIMEOUT,dirty_limit=$LIMIT,freshness=1

blobd_start
blobd_seed container=down prefix=data/ count=50 size=20000
blobd_seed_large container=down name=cold.bin size=$((64 * MiB))
blobd_seed container=down prefix=never/ count=3 size=10
t_mount "$(URL)" $OPTIONS
cat "$MNT"/data/* | md5sum >"$T/sum"
head -c 4096 "$MNT/cold.bin" >/dev/null
echo before >"$MNT/before"
mkdir "$MNT/mine"
echo first >"$MNT/mine/first"
"$FOREBAY" flush "$MNT"
sleep 1.2 # nothing is fresh any more

blobd_down
LATE=$(((TIMEOUT + 1) * 1000))

t_claim "a miss fails with EIO within store_timeout"
fails_with 'Input/output error' $LATE dd if="$MNT/cold.bin" bs=1M skip=40 \
  count=1 status=none
fails_with 'Input/output error' $LATE cat "$MNT/never/f0000000"
t_wait_for 10 offline

t_claim "local files keep working: list, stat, open, read"
within 2000 ls -lR "$MNT/data"
within 2000 stat "$MNT/data/f0000001"
t_eq "what is local" "$(cat "$MNT"/data/* | md5sum)" "$(cat "$T/sum")"
within 500 cat "$MNT/data/f0000002"
within 500 ls "$MNT/data"
"$FOREBAY" status "$MNT" | grep -q offline || t_fail "status says nothing"

t_claim "so do changes of names and attributes"
within 500 mkdir "$MNT/new"
within 500 touch "$MNT/new/f"
within 500 mv "$MNT/data/f0000003" "$MNT/new/moved"
within 500 chmod 600 "$MNT/data/f0000004"
within 500 rm "$MNT/data/f0000005"
within 500 ln -s x "$MNT/new/link"

t_claim "... also in a directory that was made here and sent before"
within 500 touch "$MNT/mine/second"
t_eq "what is in it" "$(ls "$MNT/mine")" "first
second"

t_claim "writes are accepted up to dirty_limit, then refused, in bounded time"
n=0
while [ $n -lt 30 ]; do
  begin=$(ms)
  if ! timeout 300 dd if=/dev/urandom of="$MNT/new/w$n" bs=1M count=4 \
    conv=fsync status=none 2>"$T/error"; then
    grep -q 'No space left' "$T/error" || t_fail "$(cat "$T/error")"
    break
  fi
  n=$((n + 1))
done
echo "  $((n * 4)) MiB accepted, refused after $(($(ms) - begin)) ms"
if [ $n -lt 8 ] || [ $n -gt 13 ]; then
  t_fail "accepted $n files of 4 MiB of $LIMIT"
fi
t_took $(($(ms) - begin)) 30000 "a writer"
rm -f "$MNT/new/w$n"
md5sum "$MNT"/new/w* | sed 's|/.*/||' >"$T/written"

t_claim "unmount and mount work without it, with all data there"
t_umount
within 20000 "$FOREBAY" mount "$(URL)" "$MNT" -o "cache=$CACHE,$OPTIONS"
t_eq "state" "$(t_status state)" offline
t_eq "what is local" "$(find "$MNT/data" -type f | wc -l)" 48
md5sum "$MNT"/new/w* | sed 's|/.*/||' | diff - "$T/written" ||
  t_fail "what was written is not there"
within 500 cat "$MNT/before"
[ "$(t_status pending)" -gt $n ] || t_fail "nothing is owed"
fails_with 'Input/output error' $LATE dd if="$MNT/cold.bin" bs=1M skip=30 \
  count=1 status=none

t_claim "everything goes on by itself when it is back"
blobd_up
arrived() { [ "$(rest list new/ 2>/dev/null | grep -c '^new/w')" = $n ]; }
t_wait_for 40 arrived
drained() { [ "$(t_status pending)" = 0 ]; }
t_wait_for 20 drained
online || t_fail "state: $(t_status state)"
while read -r sum name; do
  t_eq "$name in the store" "$(rest get "new/$name" | md5sum)" "$sum  -"
done <"$T/written"
rest head data/f0000004 | grep -q "permissions: $((0100600))" ||
  t_fail "a chmod is lost"
t_eq "the rest" "$(rest list | grep -c -e data/f0000005 -e data/f0000003)" 0
t_eq "moved" "$(rest get new/moved | md5sum)" \
  "$(md5sum <"$MNT/new/moved")"
t_eq "conflicts" "$(t_status conflicts)" 0
within 5000 cat "$MNT/never/f0000000"
within 5000 dd if="$MNT/cold.bin" of=/dev/null bs=1M skip=40 count=1 \
  status=none
t_umount

t_claim "a first mount needs it: one line, and nothing is left"
blobd_down
if timeout 60 "$FOREBAY" mount "$(URL)" "$MNT" \
  -o "cache=$CACHE.2,$OPTIONS" 2>"$T/error"; then
  t_fail "a first mount without a store came up"
fi
t_eq "lines" "$(wc -l <"$T/error")" 1
if mountpoint -q "$MNT"; then t_fail "something is mounted"; fi
