#!/bin/bash
# A store that means ill: the daemon neither dies, nor grows without bound, nor
# writes outside its cache directory, nor tells secrets to somebody else.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
t_begin

python3 "$TOP/tests/mount/hostile.py" >"$T/port" &
t_wait_for 10 grep -q listening "$T/port"
read -r _ PORT _ <"$T/port"
export AZURE_STORAGE_ACCOUNT=acct AZURE_STORAGE_KEY=c2VjcmV0LXNlY3JldA==
URL=http://127.0.0.1:$PORT/acct/evil
mode() { curl -sS -f -X PUT -d '' "http://127.0.0.1:$PORT/_mode/$1"; }
spied() { curl -sS "http://127.0.0.1:$PORT/_spied"; }
rss() { awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$WORKER/status"; }
alive() {
  [ "$(t_status worker_pid)" = "$WORKER" ] || t_fail "another worker: $1"
  t_eq "restarts after $1" "$(t_status worker_restarts)" 0
  # Sanitizers keep what was freed for a while.
  [ "$(rss)" -le "$LIMIT" ] || t_fail "$(rss) MiB after $1"
}
# look MODE: what it shows then; it ends, or can be ended, as one who waits for
# a thousand empty pages must be.
look() {
  local status=0
  mode "$1"
  timeout 3 ls -lR "$MNT" >"$T/ls" 2>"$T/err" || status=$?
  if [ $status = 124 ] && [ "$1" != empty-pages ]; then
    t_fail "$1: no end"
  fi
  alive "$1"
}
LIMIT=200
case $BUILD in *asan | *tsan) LIMIT=1700 ;; esac
cp /etc/passwd "$T/passwd"

mode good
t_mount "$URL" store_timeout=3,freshness=0
WORKER=$(t_status worker_pid)
t_eq "a good file" "$(cat "$MNT/good")" "hello world"

t_claim "a symlink that points out is only data"
t_eq "where it points" "$(readlink "$MNT/link")" /etc/passwd

t_claim "lengths and ranges that lie: right bytes or EIO, never others"
for name in lie-short lie-long range; do
  if timeout 10 cat "$MNT/$name" >"$T/out" 2>/dev/null; then
    t_eq "$name" "$(head -c 100 "$T/out")" "hello world"
  fi
done
alive lies

t_claim "names that point out, absolute ones, long and deep ones"
look names
find "$MNT" -mindepth 1 -maxdepth 3 >"$T/find"
[ "$(wc -l <"$T/find")" -ge 5 ] || t_fail "shown: $(cat "$T/find")"
find "$MNT" -maxdepth 3 -type f -exec cat {} + >/dev/null 2>&1 || true
cmp /etc/passwd "$T/passwd"
alive names

for mode in deep same-marker empty-pages laughs endless-body endless-headers gzip \
  redirect; do
  t_claim "$mode: an error, and nothing else"
  look $mode
done
t_eq "bytes at somebody else's" "$(spied)" 0

t_claim "when it behaves again, all is well"
mode good
again() { [ "$(cat "$MNT/good" 2>/dev/null)" = "hello world" ]; }
t_wait_for 20 again
t_eq "in the cache directory" "$(find "$CACHE" -mindepth 1 -maxdepth 1 \
  ! -name 'index.db*' -printf '%f\n' | sort | paste -sd' ')" \
  "$(find "$CACHE" -mindepth 1 -maxdepth 1 \( -name data -o -name lock -o \
    -name set -o -name ballast \) -printf '%f\n' | sort | paste -sd' ')"
t_umount
