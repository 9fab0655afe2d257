#!/bin/bash
# forebay fsck: finds what is wrong with a cache, repairs it without losing
# anything, and finds nothing the second time.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
t_begin

fsck() { "$FOREBAY" fsck "$@"; }
# finds WORD: a check finds exactly that, a repair says so, a second run is
# content.
finds() {
  if fsck "$CACHE" --json >"$T/json"; then t_fail "nothing found for $1"; fi
  t_eq "what is found" "$(jq -r '.found[].what' "$T/json" | sort -u |
    paste -sd' ')" "$*"
  fsck "$CACHE" --repair --json >"$T/repair" || true
  # (What it does may leave files of nothing behind: they go aside.)
  t_eq "what a repair says" \
    "$(jq -c '.found[]' "$T/repair" | grep -cFf <(jq -c '.found[]' "$T/json"))" \
    "$(jq '.found | length' "$T/json")"
  fsck "$CACHE" >"$T/out" || t_fail "again: $(cat "$T/out")"
  grep -q 'all well' "$T/out" || t_fail "again: $(cat "$T/out")"
}
index() { "$T/sql" "$CACHE/index.db" "$1"; }
# The data file of a name, as the index has it: DIR/data/HH/INO.SERIAL.
file_of() {
  local row
  row=$(index "SELECT i.ino || '.' || i.serial FROM inode i JOIN dentry d ON \
    d.ino = i.ino WHERE d.name = CAST('$1' AS BLOB)")
  find "$CACHE/data" -name "$row"
}
owe() { mv "$STORE" "$STORE.away"; }

cat >"$T/sql" <<'PYTHON'
#!/usr/bin/env python3
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for row in db.execute(sys.argv[2]):
    print(*row)
PYTHON
chmod +x "$T/sql"

mkdir -p "$STORE/d/sub"
for i in 1 2 3 4 5 6 7 8; do t_random "$STORE/d/c$i" 5000; done
t_random "$STORE/d/large" $((9 * MiB))
t_mount "dir:$STORE"
cat "$MNT"/d/* 2>/dev/null | wc -c >/dev/null
for i in 1 2 3; do echo "written $i" >"$MNT/d/w$i"; done
"$FOREBAY" flush "$MNT"

t_claim "a cache in use is refused"
status=0
fsck "$CACHE" 2>"$T/err" || status=$?
t_eq status $status 1
grep -q 'in use: unmount' "$T/err" || t_fail "$(cat "$T/err")"

t_claim "so is what is no cache, in one line"
for dir in "$T" "$T/nope" "$STORE"; do
  if fsck "$dir" 2>"$T/err"; then t_fail "$dir was checked"; fi
  t_eq lines "$(wc -l <"$T/err")" 1
done

t_umount
t_claim "a sound cache is sound, and stays as it is"
index 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
before=$(cd "$CACHE" && find . -type f ! -name '*-shm' -exec md5sum {} + |
  sort)
fsck "$CACHE" | grep -q 'all well' || t_fail "$(fsck "$CACHE")"
fsck "$CACHE" --repair | grep -q 'all well' || t_fail "repair"
t_eq "what is there" "$(cd "$CACHE" && find . -type f ! -name '*-shm' \
  ! -name '*-wal' -exec md5sum {} + | sort)" \
  "$(grep -v -e '-wal$' <<<"$before")"

t_claim "a clean file that is gone is fetched again"
rm "$(file_of c1)"
finds file-missing

t_claim "one of another size goes aside, and is fetched again"
echo more >>"$(file_of c2)"
finds file-wrong-size
t_eq "what went aside" "$(find "$CACHE/lost" -name '*.*' | wc -l)" 1
grep -q "d/c2" "$CACHE/lost/NAMES" || t_fail "its name is not known"

t_claim "files of nothing go aside, and are never deleted"
t_random "$T/mine" 3000
cp "$T/mine" "$CACHE/data/00/999999.1"
cp "$T/mine" "$CACHE/data/00/stray"
finds file-of-nothing
find "$CACHE/lost" -name '999999.1' -exec cmp {} "$T/mine" \; | grep . &&
  t_fail "not what it was"
cmp "$CACHE/lost/stray" "$T/mine"

t_claim "names of nothing, inodes without one, rows of nothing"
index "INSERT INTO dentry VALUES(1, CAST('ghost' AS BLOB), 777777, 5)"
finds name-of-nothing
index "INSERT INTO dentry VALUES(777776, CAST('ghost' AS BLOB), 1, 5)"
finds name-in-nothing
index "INSERT INTO extent VALUES(777777, 0, 5, 0, 0)"
finds rows-of-nothing
index "DELETE FROM dentry WHERE name = CAST('c3' AS BLOB)"
finds inode-without-name

t_claim "extents beyond the size, or in each other"
index "INSERT INTO extent SELECT ino, 0, 99999999, 0, 0 FROM dentry WHERE \
  name = CAST('c4' AS BLOB)"
finds extent-beyond-size

t_claim "link counts, totals and numbers"
index "UPDATE inode SET nlink = 9 WHERE kind = 1 AND ino = (SELECT ino FROM \
  dentry WHERE name = CAST('c5' AS BLOB))"
finds link-count
index "UPDATE meta SET value = 5 WHERE key = CAST('total_inodes' AS BLOB)"
finds counter
index "UPDATE meta SET value = 3 WHERE key = CAST('next_ino' AS BLOB)"
finds number-in-use

t_claim "what it repaired works: everything is read, as the store has it"
t_mount "dir:$STORE" freshness=0
for name in c1 c2 c3 c4 c5 c6 c7 c8 large w1 w2 w3; do
  cmp "$MNT/d/$name" "$STORE/d/$name" || t_fail "$name"
done
t_eq pending "$(t_status pending)" 0

t_claim "against the store: what others changed is said, and is no damage"
t_umount
echo other >"$STORE/d/c6"
rm "$STORE/d/c7"
fsck "$CACHE" --store --json >"$T/json"
t_eq "what is found" \
  "$(jq -r '.found[] | .what + " " + .name' "$T/json" | sort | paste -sd,)" \
  "store-changed d/c6,store-gone d/c7"

t_claim "what only this host has: a wrong size is believed, a loss is told"
t_mount "dir:$STORE"
owe
echo 'not sent' >"$MNT/d/n1"
echo 'not sent' >"$MNT/d/n2"
echo 'not sent' >"$MNT/d/n3"
"$FOREBAY" umount "$MNT" >/dev/null
echo more >>"$(file_of n1)"
finds file-wrong-size
rm "$(file_of n2)"
finds file-lost
jq -r '.found[].name' "$T/repair" | grep -q d/n2 || t_fail "no name"
mv "$STORE.away" "$STORE"
t_mount "dir:$STORE"
"$FOREBAY" flush "$MNT"
t_eq n1 "$(cat "$STORE/d/n1")" "not sent
more"
t_eq n3 "$(cat "$STORE/d/n3")" "not sent"
[ ! -e "$MNT/d/n2" ] || t_fail "n2 is shown"
t_eq conflicts "$(t_status conflicts)" 0
t_umount

t_claim "a damaged index is said, whatever bytes it has, and nothing crashes"
cp "$CACHE/index.db" "$T/good"
rm -f "$CACHE"/index.db-*
for seed in 1 2 3 4 5 6 7 8; do
  python3 - "$T/good" "$CACHE/index.db" $seed <<'PYTHON'
import random, sys
random.seed(int(sys.argv[3]))
data = bytearray(open(sys.argv[1], "rb").read())
for _ in range(200):
    data[random.randrange(100, len(data))] = random.randrange(256)
open(sys.argv[2], "wb").write(data)
PYTHON
  rm -f "$CACHE"/index.db-*
  status=0
  fsck "$CACHE" --repair >"$T/out" 2>"$T/err" || status=$?
  [ $status -le 1 ] || t_fail "status $status: $(cat "$T/err")"
done
[ -s "$CACHE/index.db" ] || t_fail "the index is gone"
