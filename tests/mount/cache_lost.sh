#!/bin/bash
# Losses of the cache's own: data files that are gone, an index that is gone or
# damaged, one of two cache disks empty.  Clean bytes are fetched again; what
# the store does not have is reported and kept, never dropped in silence.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
t_begin

for i in 1 2 3 4 5 6 7 8; do t_random "$STORE/f$i" 100000; done
(cd "$STORE" && md5sum f*) >"$T/sums"
fetched() { (cd "$MNT" && md5sum --quiet -c "$T/sums"); }
aside() { [ "$(t_status set_aside)" = "$1" ]; }
kill_all() {
  local pids
  pids=("$(t_status keeper_pid)" "$(t_status worker_pid)")
  kill -9 "${pids[@]}"
  for pid in "${pids[@]}"; do t_wait_for 10 t_gone "$pid"; done
  umount -l "$MNT" 2>/dev/null || true
}
away() { mv "$STORE" "$STORE.away"; }
back() { mv "$STORE.away" "$STORE"; }

t_claim "a clean data file that is gone is fetched again"
t_mount "dir:$STORE"
fetched
t_umount
find "$CACHE/data" -type f -delete
t_mount "dir:$STORE"
fetched || t_fail "not fetched again"

t_claim "one that the store does not have is set aside, and holds nobody up"
away
echo only-here >"$MNT/dirty"
t_wait_for 10 test "$("$FOREBAY" status "$MNT" --json | jq .pending)" -gt 0
kill_all
find "$CACHE/data" -type f -size -2 -delete
back
t_mount "dir:$STORE"
echo later >"$MNT/later"
t_wait_for 20 test -e "$STORE/later"
t_wait_for 20 aside 1
if cat "$MNT/dirty" 2>"$T/error"; then t_fail "bytes from nowhere"; fi
grep -q 'Input/output error' "$T/error" || t_fail "$(cat "$T/error")"
rm "$MNT/dirty"
fetched

t_claim "an index that is gone: dirty data files are kept and named as known"
away
echo precious >"$MNT/precious"
t_wait_for 10 test "$("$FOREBAY" status "$MNT" --json | jq .pending)" -gt 0
kill_all
back
cp -r "$CACHE" "$T/copy"
rm "$CACHE"/index.db*
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE" 2>"$T/warning" ||
  t_fail "no mount: $(cat "$T/warning")"
grep -q 'was gone' "$T/warning" || t_fail "said nothing: $(cat "$T/warning")"
grep -rqx precious "$CACHE/lost+found" || t_fail "precious was dropped"
if grep -q '^f' "$CACHE"/lost+found/*/names; then t_fail "a clean one kept"; fi
fetched
t_umount

t_claim "a damaged index: the same, by its names where it can be read"
rm -rf "$CACHE"
mv "$T/copy" "$CACHE"
python3 - "$CACHE/index.db" <<'P'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
page, = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'").fetchone()
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.close()
with open(sys.argv[1], "r+b") as f:
    f.seek((page - 1) * 4096)
    f.write(b"x" * 4096)
P
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE" 2>"$T/warning" ||
  t_fail "no mount: $(cat "$T/warning")"
grep -q 'damaged' "$T/warning" || t_fail "said nothing: $(cat "$T/warning")"
grep -q '/precious$' "$CACHE"/lost+found/*/names ||
  t_fail "no name: $(cat "$CACHE"/lost+found/*/names)"
grep -qx precious "$(sed -n 's|\t/precious$||p' "$CACHE"/lost+found/*/names)" ||
  t_fail "its bytes are not there"
fetched
t_umount

t_claim "one of two cache disks is empty: the rest goes on"
MNT=$T/mnt2
CACHE=$T/one:$T/two
mkdir -p "$MNT" "$T/one" "$T/two"
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE"
fetched
t_umount
rm -rf "$T/two"
mkdir "$T/two"
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE"
fetched || t_fail "not fetched again"
t_umount
