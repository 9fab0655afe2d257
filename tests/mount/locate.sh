#!/bin/bash
# forebay locate: the data file of a whole file, refused with a reason for
# others, kept while pinned or open.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"

# refused WORDS COMMAND...: it fails with one line that has these words.
refused() {
  words=$1
  shift
  if "$@" >"$T/out" 2>"$T/err"; then t_fail "not refused: $*"; fi
  t_eq "lines" "$(wc -l <"$T/err")" 1
  grep -q -- "$words" "$T/err" || t_fail "$* says: $(cat "$T/err")"
}

t_begin
mkdir "$STORE/d"
t_random "$STORE/d/whole" $((3 * MiB))
t_random "$STORE/d/large" $((20 * MiB))
t_random "$STORE/d/none" $MiB
t_mount "dir:$STORE"

t_claim "a file that is not wholly local, or none, is refused"
refused "not wholly local" "$FOREBAY" locate "$MNT/d/none"
head -c 4096 "$MNT/d/large" >/dev/null
refused "not wholly local" "$FOREBAY" locate "$MNT/d/large"
refused "not a regular file" "$FOREBAY" locate "$MNT/d"
refused "PATH is needed" "$FOREBAY" locate

t_claim "a whole one has a data file with its bytes"
cat "$MNT/d/whole" >/dev/null
data=$("$FOREBAY" locate "$MNT/d/whole")
case $data in "$CACHE"/data/*) ;; *) t_fail "somewhere else: $data" ;; esac
cmp "$data" "$STORE/d/whole"
t_eq "bytes" "$("$FOREBAY" locate --json "$MNT/d/whole" |
  jq '.files[0].bytes')" $((3 * MiB))

t_claim "while somebody has the data file open, it is not evicted"
exec 5<"$data"
"$FOREBAY" evict "$MNT/d/whole" >"$T/out" 2>&1 || true
[ -e "$data" ] || t_fail "evicted while open: $(cat "$T/out")"
exec 5<&-
"$FOREBAY" evict "$MNT/d/whole" >/dev/null
[ ! -e "$data" ] || t_fail "not evicted when closed"

t_claim "with --pin it stays until unpin"
cat "$MNT/d/whole" >/dev/null
data=$("$FOREBAY" locate --pin "$MNT/d/whole")
refused "pinned" "$FOREBAY" evict "$MNT/d/whole"
cmp "$data" "$STORE/d/whole"
"$FOREBAY" unpin "$MNT/d/whole"
"$FOREBAY" evict "$MNT/d/whole" >/dev/null
[ ! -e "$data" ] || t_fail "not evicted after unpin"

t_claim "a file that is being written is refused"
exec 6>"$MNT/d/new"
echo text >&6
refused "being written" "$FOREBAY" locate "$MNT/d/new"
exec 6>&-
t_wait_for 10 "$FOREBAY" locate "$MNT/d/new" >/dev/null
t_umount
