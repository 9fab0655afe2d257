#!/bin/bash
# Lost races: a blob changes behind forebay while the local copy is dirty.
# Both versions are kept, `conflicts` and `status` say so, nothing else stops;
# where nothing is lost there is no conflict.
# sanitize: yes
# shellcheck disable=SC2016 # what race() evaluates
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/races" "$@"; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush"; }
is_held() { [ "$(blobd_held)" -ge 1 ]; }
conflicts() { "$FOREBAY" conflicts "$MNT" --json; }

# race OP NAME LOCAL REMOTE: the local change's request is held at the store
# (OP) until the remote one is done.
race() {
  blobd_hook "op=$1" "name=$2" count=1
  eval "$3"
  t_wait_for 15 is_held
  eval "$4"
  blobd_release
  flush
  t_eq "owed after the race of $2" "$(t_status pending)" 0
}
# copies NAME: how many conflict copies the mount shows.
copies() {
  find "$MNT" -maxdepth 1 -name "${1%.*}.conflict-*" | wc -l
}
copy_of() { find "$MNT" -maxdepth 1 -name "${1%.*}.conflict-*"; }
remote() { printf '%s' "$2" | rest put "$1"; }

blobd_start
blobd_container races
for f in edit.txt attr.txt gone.txt del.txt same.txt ren.txt; do
  remote $f base
done
t_mount "$BLOBD_URL/races" freshness=1
cat "$MNT"/*.txt >/dev/null

t_claim "edit against edit: both are kept, and said"
race put edit.txt 'printf mine >"$MNT/edit.txt"' 'remote edit.txt theirs'
t_eq "the name" "$(cat "$MNT/edit.txt")" theirs
t_eq "copies" "$(copies edit.txt)" 1
copy=$(copy_of edit.txt)
t_eq "the copy" "$(cat "$copy")" mine
case $copy in
*/edit.conflict-"$(uname -n)"-20*.txt) ;;
*) t_fail "its name: $copy" ;;
esac
t_eq "the blob" "$(rest get edit.txt)" theirs
t_eq "the copy's blob" "$(rest get "$(basename "$copy")")" mine
t_eq "status" "$(t_status conflicts)" 1
t_eq "set aside" "$(t_status set_aside)" 0
conflicts | grep -q '"edit.txt"' || t_fail "conflicts: $(conflicts)"
conflicts | grep -q "$(basename "$copy")" || t_fail "conflicts: $(conflicts)"
"$FOREBAY" conflicts "$MNT" | grep -q edit.txt || t_fail "conflicts in words"
"$FOREBAY" status "$MNT" | grep -q -i conflict || t_fail "status in words"

t_claim "a new name against a new name: both are kept"
race put new.txt 'printf mine >"$MNT/new.txt"' 'remote new.txt theirs'
t_eq "the name" "$(cat "$MNT/new.txt")" theirs
t_eq "the copy" "$(cat "$(copy_of new.txt)")" mine
t_eq "status" "$(t_status conflicts)" 2

t_claim "a large file, staged in blocks: both are kept"
head -c 20M /dev/urandom >"$T/mine"
race commit large.bin 'cp "$T/mine" "$MNT/large.bin"' 'remote large.bin theirs'
t_eq "the name" "$(cat "$MNT/large.bin")" theirs
cmp "$T/mine" "$(copy_of large.bin)" || t_fail "the copy is not mine"
rest get "$(basename "$(copy_of large.bin)")" | cmp - "$T/mine" ||
  t_fail "the copy's blob is not mine"

t_claim "the same bytes by somebody else: no conflict"
before=$(t_status conflicts)
race put same.txt 'printf equal >"$MNT/same.txt"' 'remote same.txt equal'
t_eq "the name" "$(cat "$MNT/same.txt")" equal
t_eq "copies" "$(copies same.txt)" 0
t_eq "status" "$(t_status conflicts)" "$before"

t_claim "deleted here, edited there: the edit stays and is shown"
race delete del.txt 'rm "$MNT/del.txt"' 'remote del.txt theirs'
t_eq "the blob" "$(rest get del.txt)" theirs
t_eq "the name" "$(cat "$MNT/del.txt")" theirs
t_eq "status" "$(t_status conflicts)" "$before"

t_claim "edited here, deleted there: it is made again"
race put gone.txt 'printf mine >"$MNT/gone.txt"' 'rest delete gone.txt'
t_eq "the name" "$(cat "$MNT/gone.txt")" mine
t_eq "the blob" "$(rest get gone.txt)" mine
t_eq "copies" "$(copies gone.txt)" 0

t_claim "attributes against an edit: theirs, with our mode, and no copy"
race setmeta attr.txt 'chmod 600 "$MNT/attr.txt"' 'remote attr.txt theirs'
t_eq "the name" "$(cat "$MNT/attr.txt")" theirs
t_eq "the mode" "$(stat -c %a "$MNT/attr.txt")" 600
t_eq "copies" "$(copies attr.txt)" 0
rest head attr.txt | grep -q "permissions: $((0100600))" ||
  t_fail "the mode is not in the store"

t_claim "a rename against an edit loses neither"
race any ren.txt 'mv "$MNT/ren.txt" "$MNT/moved.txt"' 'remote ren.txt theirs'
cat "$MNT"/ren.txt "$MNT"/moved.txt >"$T/all" 2>/dev/null || true
grep -q theirs "$T/all" || t_fail "their edit is gone: $(cat "$T/all")"

t_claim "a writer that has it open goes on in the copy"
remote open.txt base
t_wait_for 10 test -e "$MNT/open.txt"
exec 5>>"$MNT/open.txt"
printf ' one' >&5
remote open.txt theirs
sleep 1.1 # freshness: it is seen
ls -l "$MNT" >/dev/null
printf ' two' >&5
exec 5>&-
flush
t_eq "the name" "$(cat "$MNT/open.txt")" theirs
t_eq "the copy" "$(cat "$(copy_of open.txt)")" "base one two"

t_claim "nothing else stopped, and another host sees the same"
echo after >"$MNT/after"
flush
t_eq "after" "$(rest get after)" after
ls "$MNT" >"$T/ls"
md5sum "$MNT"/* | sed 's|/.*/||' >"$T/sums"
seen=$(t_status conflicts)
t_umount
t_mount "$BLOBD_URL/races" ""
t_eq "conflicts after a remount" "$(t_status conflicts)" "$seen"
t_umount
CACHE=$CACHE.2 t_mount "$BLOBD_URL/races" ""
md5sum "$MNT"/* | sed 's|/.*/||' | diff - "$T/sums" ||
  t_fail "another host sees other files"
t_umount
echo "$seen conflicts"
