#!/bin/bash
# A directory renamed as a whole, over many blobs: one row of the journal,
# sent a few names at a time, across an unmount, while files in it change and
# it is renamed again; the rename of what was never listed waits for that.
#   FULL=1: 1,000,000 blobs instead of 10,000
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

COUNT=10000
[ -z "${FULL:-}" ] || COUNT=1000000

# The first directory rename in the line: a key of its row.
rename_row() {
  "$FOREBAY" status "$MNT" --pending --json |
    jq -r "[.pending_rows[] | select(.kind == \"rename\")][0].$1 // 0"
}
moving() { [ "$(rename_row "done")" -gt "$1" ]; }
tree() { (cd "$1" && find . -type f | sort); }

t_begin
blobd_start
blobd_container dirs >/dev/null
blobd_seed container=dirs prefix=d/ "count=$COUNT" size=100 depth=1 per=1000 \
  >/dev/null
blobd_seed container=dirs prefix=small/ count=20 size=100 depth=0 >/dev/null
blobd_seed container=dirs prefix=other/ count=20 size=100 depth=0 >/dev/null
t_mount "$BLOBD_URL/dirs" store_timeout=2

t_claim "the rename of a directory that was not listed can be interrupted"
ls "$MNT" >/dev/null
blobd_hook op=list >/dev/null
mv "$MNT/small" "$MNT/moved" 2>/dev/null &
mover=$!
held() { [ "$(blobd_held)" -gt 0 ]; }
t_wait_for 10 held
kill -INT $mover 2>/dev/null
kill -TERM $mover
begin=$(date +%s%3N)
wait $mover && t_fail "it was renamed"
t_took $(($(date +%s%3N) - begin)) 1000 "its end"
blobd_release >/dev/null

t_claim "... and fails within store_timeout when the store is away"
blobd_down >/dev/null
mv -T "$MNT/other" "$MNT/moved" 2>"$T/error" && t_fail "it was renamed"
grep -q "Input/output" "$T/error" || t_fail "$(cat "$T/error")"
blobd_up >/dev/null
listed() { ls "$MNT/other" >/dev/null 2>&1; }
t_wait_for 20 listed

t_claim "$COUNT blobs: one row, at once here"
some=$MNT/d/$(cd "$MNT/d" && find . -type f | head -n 1)
sha256sum <"$some" >"$T/sha"
name=${some#"$MNT/d/./"}
gone=$(cd "$MNT/d" && find . -type f | sort | tail -n 1)
blobd_latency 5 >/dev/null
mkdir "$MNT/e"
mv -T "$MNT/d" "$MNT/e"
[ ! -e "$MNT/d" ] || t_fail "d is still there"
t_eq "bytes" "$(sha256sum <"$MNT/e/$name")" "$(cat "$T/sha")"
t_eq "renames in the line" "$("$FOREBAY" status "$MNT" --pending --json |
  jq '[.pending_rows[] | select(.kind == "rename")] | length')" 1

t_claim "it is sent in parts, and goes on after an unmount"
t_wait_for 60 moving 300
[ "$(t_status pending)" -lt 1000 ] || t_fail "$(t_status pending) rows at once"
"$FOREBAY" status "$MNT" --pending | grep " d -> e (.* of .*): the new names"
t_umount
t_mount "$BLOBD_URL/dirs"
moving 300 || t_fail "it begins again: $(rename_row "done")"

t_claim "files in it are rewritten, made and removed meanwhile"
echo new >"$MNT/e/$name"
echo made >"$MNT/e/made"
rm "$MNT/e/$gone"

t_claim "it is renamed again, back, and over an empty directory"
mv -T "$MNT/e" "$MNT/f"
mv -T "$MNT/f" "$MNT/d"
mkdir "$MNT/g"
mv -T "$MNT/d" "$MNT/g"
tree "$MNT/g" >"$T/here"
t_eq "files" "$(wc -l <"$T/here")" "$COUNT"
begin=$(date +%s%3N)
"$FOREBAY" flush "$MNT" >/dev/null
echo "in the store after $(($(date +%s%3N) - begin)) ms"
t_eq pending "$(t_status pending)" 0
t_eq conflicts "$(t_status conflicts)" 0
t_umount

t_claim "another host sees the same tree, and nothing else"
CACHE=$T/cache2 t_mount "$BLOBD_URL/dirs"
tree "$MNT/g" | cmp - "$T/here" || t_fail "the trees differ"
t_eq names "$(cd "$MNT" && echo *)" "g other small"
t_eq "what was rewritten" "$(cat "$MNT/g/$name")" new
t_eq "what was made" "$(cat "$MNT/g/made")" made
t_umount

t_claim "in a directory as the store, too, and when the old name is taken again"
CACHE=$T/cache3 t_mount "dir:$STORE"
mkdir -p "$MNT/d/sub/below"
"$FOREBAY" flush "$MNT"
mv "$MNT/d" "$MNT/e"
mkdir "$MNT/d"
timeout 30 "$FOREBAY" flush "$MNT" || t_fail "the line is stuck"
t_eq "the store" "$(cd "$STORE" && find d e | sort | tr '\n' ' ')" \
  "d e e/sub e/sub/below "
