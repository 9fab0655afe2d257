#!/bin/bash
# Many inodes, open files and readers: memory, threads and the time of a mount
# stay bounded.
#   FULL=1: 1,000,000 inodes instead of 100,000
# timeout: 1200
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

CONTENT=$BUILD/tests/mount/content
COUNT=100000
[ -z "${FULL:-}" ] || COUNT=1000000
THREADS_MAX=64
RSS_MAX_KB=$((200 * 1024))

# of_worker KEY: a number of /proc/PID/status.
of_worker() {
  sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$(t_status worker_pid)/status"
}

bounded() {
  threads=$(of_worker Threads) rss=$(of_worker VmHWM)
  echo "$1: $threads threads, at most $((rss / 1024)) MiB resident"
  [ "$threads" -lt $THREADS_MAX ] || t_fail "$1: $threads threads"
  [ "$rss" -lt $RSS_MAX_KB ] || t_fail "$1: $((rss / 1024)) MiB resident"
}

now_ms() { date +%s%3N; }

t_begin
blobd_start --sha-max 0
blobd_container scale >/dev/null
blobd_seed container=scale prefix=many/ "count=$COUNT" size=10 depth=1 \
  per=1000 >/dev/null
blobd_seed container=scale prefix=cold/ count=1000 size=70000 depth=0 >/dev/null
blobd_seed_large container=scale name=big.bin size=$((64 * MiB)) >/dev/null

t_claim "$COUNT names are listed"
t_mount "$BLOBD_URL/scale"
begin=$(now_ms)
found=$(find "$MNT/many" -type f | wc -l)
t_eq "files found" "$found" "$COUNT"
ms=$(($(now_ms) - begin))
echo "listed in $ms ms, $((COUNT * 1000 / ms)) a second"
[ "$(t_status inodes)" -ge "$COUNT" ] || t_fail "$(t_status inodes) inodes"
bounded "with $COUNT inodes"
echo "index: $(($(t_du "$CACHE") / MiB)) MiB"
t_umount

t_claim "a mount on them answers in 2 s"
begin=$(now_ms)
t_mount "$BLOBD_URL/scale"
stat "$MNT/many/d000" >/dev/null
ms=$(($(now_ms) - begin))
echo "mounted in $ms ms"
t_took $ms 2000 "a mount with $COUNT inodes"
bounded "mounted again"

t_claim "1,000 open files, 200 readers of cold files: right, threads bounded"
blobd_latency 20 >/dev/null
"$CONTENT" many "$MNT/cold" cold/ 1000 200 &
reader=$!
most=0
while kill -0 $reader 2>/dev/null; do
  threads=$(of_worker Threads)
  [ "$threads" -le "$most" ] || most=$threads
done
wait $reader
echo "threads while they read: at most $most"
[ "$most" -lt $THREADS_MAX ] || t_fail "$most threads for 200 readers"
bounded "after 200 readers"

t_claim "200 readers of one large cold file"
"$CONTENT" random "$MNT/big.bin" big.bin 200
bounded "after 200 readers of one file"
t_umount
