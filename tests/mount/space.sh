#!/bin/bash
# Space: far more is read and written than the cache may hold.  It stays within
# its limit all the while, what is dirty is never dropped, what is pinned stays,
# everything arrives.  FULL=1: the sizes of the issue.
# timeout: 900
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

if [ -n "${FULL:-}" ]; then
  LIMIT=$GiB FILE=$((256 * MiB)) READS=20 WRITES=12
else
  LIMIT=$((100 * MiB)) FILE=$((25 * MiB)) READS=20 WRITES=12
fi

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/space" "$@"; }

# Until the file "stop" appears: what the disk says, what status says.
watch_space() {
  while [ ! -e "$T/stop" ]; do
    echo "$(t_du "$CACHE/data") $(t_status cache_bytes) $(t_status dirty_bytes)"
    sleep 0.1
  done 2>/dev/null >>"$T/watched"
}
# Ends the watching: the largest of what was seen.
watched() {
  touch "$T/stop"
  wait "$watcher"
  rm "$T/stop"
  mv "$T/watched" "$T/seen"
  awk -v limit="$LIMIT" -v file="$FILE" '
    NF == 3 {
      if ($1 > du) du = $1
      if ($2 > said) said = $2
      if ($3 > dirty) dirty = $3
      n++
    }
    END {
      M = 1048576
      printf "  %d samples; at most: du %d MiB, status %d MiB, dirty %d MiB;", \
        n, du / M, said / M, dirty / M
      printf " limit %d MiB\n", limit / M
      if (n < 5) { print "failed: too few samples"; exit 1 }
      # A file that is open for writing may exceed it.
      if (du > limit + (dirty > 0 ? file : 0)) {
        print "failed: the disk holds more than the limit"; exit 1
      }
      if (said > limit + (dirty > 0 ? file : 0)) {
        print "failed: status says more than the limit"; exit 1
      }
    }' "$T/seen"
}
watch() {
  watch_space &
  watcher=$!
}

blobd_start --latency-ms 5 --dir "$T"
blobd_container space
for i in $(seq $READS); do
  blobd_seed_large container=space name=in/f"$i" size=$FILE
done
blobd_seed container=space prefix=pin/ count=4 size=$((FILE / 10))
t_mount "$BLOBD_URL/space" cache_size=$LIMIT
t_eq "the limit" "$(t_status cache_limit_bytes)" "$LIMIT"
"$FOREBAY" pin "$MNT/pin" || t_fail pin
"$FOREBAY" prefetch "$MNT/pin" >/dev/null || t_fail prefetch

t_claim "reading through $((READS * FILE / MiB)) MiB: no error, within the limit"
watch
for i in $(seq $READS); do
  t_eq "size of f$i" "$(wc -c < <(cat "$MNT/in/f$i"))" $FILE
done
watched || exit 1
rest get in/f7 | cmp - "$MNT/in/f7" || t_fail "other bytes"

t_claim "du agrees with status"
du=$(t_du "$CACHE/data") said=$(t_status cache_bytes)
[ $((du > said ? du - said : said - du)) -le $((LIMIT / 50)) ] ||
  t_fail "du $du, status $said"

t_claim "writing $((WRITES * FILE / MiB)) MiB to a slow store: the same"
blobd_fault latency:500 op=putblock count=0
watch
for i in $(seq $WRITES); do
  head -c $FILE /dev/urandom >"$T/one"
  md5sum <"$T/one" >"$T/sum.$i"
  dd if="$T/one" of="$MNT/out$i" bs=1M status=none || t_fail "write of out$i"
  # A dirty file does not go, whoever asks.
  if [ "$i" = 3 ]; then
    "$FOREBAY" evict "$MNT/out$i" >/dev/null 2>&1 || true
  fi
done
dirty=$(t_status dirty_bytes)
watched || exit 1
blobd_fault_clear
echo "  $((dirty / MiB)) MiB were dirty after the last write"

t_claim "everything arrives, and nothing dirty was dropped"
"$FOREBAY" flush "$MNT" >/dev/null || t_fail flush
t_eq "owed" "$(t_status pending)" 0
for i in $(seq $WRITES); do
  t_eq "out$i in the store" "$(rest get out"$i" | md5sum)" "$(cat "$T/sum.$i")"
done
t_eq "out1 on the mount" "$(md5sum <"$MNT/out1")" "$(cat "$T/sum.1")"

t_claim "what is pinned is still here"
blobd_counts_reset
cat "$MNT"/pin/* | wc -c | grep -q -x $((4 * (FILE / 10))) || t_fail "pin"
t_eq "data requests for pinned files" "$(blobd_count get)" 0

t_claim "and stays so over a remount; the account is right after it"
t_umount
t_mount "$BLOBD_URL/space" cache_size=$LIMIT
blobd_counts_reset
cat "$MNT"/pin/* >/dev/null
t_eq "data requests for pinned files" "$(blobd_count get)" 0
du=$(t_du "$CACHE/data") said=$(t_status cache_bytes)
[ $((du > said ? du - said : said - du)) -le $((LIMIT / 50)) ] ||
  t_fail "du $du, status $said"

t_claim "a smaller limit at the next mount is kept, too"
t_umount
t_mount "$BLOBD_URL/space" cache_size=$((LIMIT / 2))
fits() { [ "$(t_du "$CACHE/data")" -le $((LIMIT / 2)) ]; }
t_wait_for 10 fits
t_umount
