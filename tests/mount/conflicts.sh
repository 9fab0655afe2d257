#!/bin/bash
# `forebay conflicts`: both sides of each lost race, with sizes, times and
# hosts; --keep mine, theirs and both; and what users do by hand.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/races" "$@"; }
remote() { printf '%s' "$2" | rest put "$1"; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush: $(cat "$T/flush.log")"; }
is_held() { [ "$(blobd_held)" -ge 1 ]; }
copy_of() { find "$MNT" -name "$1.conflict-*"; }
# lose NAME MINE THEIRS: a race that we lose.
lose() {
  blobd_hook op=put "name=$1" count=1
  printf '%s' "$2" >"$MNT/$1"
  t_wait_for 15 is_held
  remote "$1" "$3"
  blobd_release
  flush
}
reads() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }
gone() { [ ! -e "$1" ]; }
list() { "$FOREBAY" conflicts "$MNT" --json; }

blobd_start
blobd_container races
t_mount "$BLOBD_URL/races"
for f in mine theirs both moved removed twice dir/f other; do
  case $f in */*) mkdir "$MNT/${f%/*}" ;; esac
  lose $f "my $f" "their version of $f"
done
lose twice "again mine" "again theirs"
t_eq "conflicts" "$(t_status conflicts)" 9

t_claim "both sides, with sizes, times and hosts"
list | jq -c '.[] | select(.name == "mine")' >"$T/row"
t_eq "sizes" "$(jq -c '[.local.size, .remote.size]' "$T/row")" "[7,21]"
t_eq "hosts" "$(jq -c '[.local.host, .remote.host]' "$T/row")" \
  "[\"$(uname -n)\",null]"
now=$(date +%s)
jq -e --argjson now "$now" '[.local.mtime, .remote.mtime, .found] |
  all(. > $now - 300 and . < $now + 5)' "$T/row" >/dev/null ||
  t_fail "times: $(cat "$T/row")"
"$FOREBAY" conflicts "$MNT/mine" >"$T/text"
for word in "another tool" "$(uname -n)" "7 B" "21 B" --keep; do
  grep -q -e "$word" "$T/text" || t_fail "no $word in: $(cat "$T/text")"
done

t_claim "another forebay host is named by its id"
CACHE=$T/cache2 MNT=$T/mnt2 t_mount "$BLOBD_URL/races"
blobd_hook op=put name=other count=1
printf 'my third' >"$MNT/other"
t_wait_for 15 is_held
printf 'of the other host' >"$T/mnt2/other"
t_two() { [ "$(blobd_held)" -ge 1 ]; }
"$FOREBAY" flush "$T/mnt2" >/dev/null
blobd_release
flush
list | jq -r '.[] | select(.name == "other") | .remote.host' | tail -n 1 |
  grep -Eq '^[0-9a-f]{32}$' || t_fail "$(list)"
MNT=$T/mnt2 t_umount

t_claim "--keep mine"
"$FOREBAY" conflicts --keep mine "$MNT/mine"
t_wait_for 5 reads "$MNT/mine" "my mine"
t_eq "copies" "$(copy_of mine | wc -l)" 0
flush
t_eq "the blob" "$(rest get mine)" "my mine"
t_eq "blobs" "$(rest count mine)" 1

t_claim "--keep theirs, by the copy's name"
copy=$(copy_of theirs)
"$FOREBAY" conflicts --keep=theirs "$copy"
t_wait_for 5 gone "$copy"
t_eq "the name" "$(cat "$MNT/theirs")" "their version of theirs"
flush
t_eq "blobs" "$(rest count theirs)" 1

t_claim "--keep both"
"$FOREBAY" conflicts "$MNT/both" --keep both
t_eq "both" "$(cat "$MNT/both" "$(copy_of both)")" \
  "their version of bothmy both"
flush
t_eq "blobs" "$(rest count both)" 2

t_claim "by hand: moved over the name, removed"
mv "$(copy_of moved)" "$MNT/moved"
rm "$(copy_of removed)"

t_claim "several copies: theirs takes all, mine asks which"
"$FOREBAY" conflicts --keep mine "$MNT/twice" 2>"$T/err" && t_fail "which?"
grep -q "2 copies" "$T/err" || t_fail "says: $(cat "$T/err")"
"$FOREBAY" conflicts --keep theirs "$MNT/twice"

t_claim "a directory's rename takes its conflicts along"
mv "$MNT/dir" "$MNT/dir2"
"$FOREBAY" conflicts --keep mine "$MNT/dir2/f"
t_wait_for 5 reads "$MNT/dir2/f" "my dir/f"
"$FOREBAY" conflicts --keep both "$MNT/other"
t_eq "conflicts" "$(t_status conflicts)" 0
t_eq "list" "$("$FOREBAY" conflicts "$MNT")" "no conflicts"

t_claim "wrong use is said in one line"
for args in "--keep all $MNT/mine" "--keep mine" "--keep"; do
  # shellcheck disable=SC2086 # words
  "$FOREBAY" conflicts $args 2>"$T/err" && t_fail "$args"
  t_eq "lines" "$(wc -l <"$T/err")" 1
done
"$FOREBAY" conflicts --keep mine "$MNT/mine" 2>"$T/err" && t_fail "no conflict"
grep -q "no conflict" "$T/err" || t_fail "$(cat "$T/err")"
flush
md5sum "$MNT"/* "$MNT"/dir2/* 2>/dev/null | sed "s|$MNT/||" >"$T/sums"
t_umount
CACHE=$T/cache3 t_mount "$BLOBD_URL/races"
md5sum "$MNT"/* "$MNT"/dir2/* 2>/dev/null | sed "s|$MNT/||" |
  diff - "$T/sums" || t_fail "another host sees other files"
t_umount
