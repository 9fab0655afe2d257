#!/bin/bash
# WRITEBACK.md section 7, line by line: lost races and refusals.  Both versions
# of everything are kept, and only a lost race is called one.
# sanitize: address
# shellcheck disable=SC2016 # what race() evaluates
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/races" "$@"; }
remote() { printf '%s' "$2" | rest put "$1"; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush: $(cat "$T/flush.log")"; }
is_held() { [ "$(blobd_held)" -ge 1 ]; }
gone() { [ ! -e "$1" ]; }
conflicts() { t_status conflicts; }
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
copies() { find "$MNT" -name "$1.conflict-*" | sort; }
says() { grep -q "$2" <<<"$1" || t_fail "not '$2' in: $1"; }
# What the store is asked to hold, as the log of blobd has it.
logged() { blobd_log | jq -r "select($1) | .name"; }

blobd_start
blobd_container races
for f in same.txt edit.txt attr.txt gone.txt del.txt ren.txt dirty.txt \
  open.txt leased copied odd down held; do
  remote $f base
done
remote rm/marked x
remote old/a a
remote old/b b
head -c 2M /dev/urandom >"$T/big"
rest put far.bin <"$T/big"
rest put near.bin <"$T/big"
export FOREBAY_TEST_REFUSE_WAIT_MS=400
t_mount "$BLOBD_URL/races" freshness=1
find "$MNT" -type f ! -name far.bin -exec cat {} + >/dev/null

t_claim "7.1 only three words are a lost race, and only after a HEAD"
blobd_counts_reset
blobd_fault 412:ConditionNotMet op=put name=edit.txt
printf 'ours' >"$MNT/edit.txt"
flush
t_eq "the blob" "$(rest get edit.txt)" ours
[ "$(blobd_count head)" -ge 1 ] || t_fail "no HEAD: $(blobd_counts)"
t_eq "conflicts" "$(conflicts)" 0

t_claim "7.2 a lease is waited for, and said"
id=$(rest lease leased)
printf mine >"$MNT/leased"
waits() { [ "$(t_status held_by)" = "leased: LeaseIdMissing" ]; }
t_wait_for 10 waits
t_eq "set aside" "$(t_status set_aside)" 0
rest release leased "$id"
flush
t_eq "the blob" "$(rest get leased)" mine

t_claim "7.3 a pending copy is waited for"
blobd_fault 409:PendingCopyOperation op=put name=copied count=2
printf mine >"$MNT/copied"
flush
t_eq "the blob" "$(rest get copied)" mine

t_claim "7.4 an unknown refusal is set aside, never a conflict, and the rest goes on"
blobd_fault 409:SomethingNew op=put name=odd count=0
printf mine >"$MNT/odd"
sleep 0.3
echo after >"$MNT/after-odd"
is_aside() { [ "$(t_status set_aside)" = 1 ]; }
t_wait_for 20 is_aside
"$FOREBAY" flush "$MNT/after-odd" || t_fail "what came later does not go"
t_eq "after" "$(rest get after-odd)" after
t_eq "the name" "$(cat "$MNT/odd")" mine
t_eq "conflicts" "$(conflicts)" 0
"$FOREBAY" status "$MNT" --pending | grep -q SomethingNew ||
  t_fail "status --pending does not say why"
"$FOREBAY" flush "$MNT/odd" >"$T/flush.log" 2>&1 && t_fail "flush is silent"
t_eq "set aside" "$(t_status set_aside)" 1
rest get odd >"$T/out"
t_eq "the blob" "$(cat "$T/out")" base
blobd_fault_clear
remote odd theirs
sleep 1.1
t_eq "it keeps its local face" "$(cat "$MNT/odd")" mine
printf again >"$MNT/odd"
flush
t_eq "set aside after a newer state" "$(t_status set_aside)" 0
t_eq "the blob" "$(rest get odd)" theirs
t_eq "the copy" "$(cat "$(copies odd)")" again

t_claim "7.5 what the store as a whole refuses opens the circuit"
blobd_fault 403:AuthorizationFailure count=0
printf mine >"$MNT/down"
is_denied() { [ "$(t_status state)" = denied ]; }
t_wait_for 10 is_denied
sleep 0.6
t_eq "set aside" "$(t_status set_aside)" 0
t_eq "local files" "$(cat "$MNT/down")" mine
blobd_fault_clear
flush
t_eq "the blob" "$(rest get down)" mine
before=$(conflicts)

t_claim "7.6 same bytes: adopted, no conflict"
race put same.txt 'printf equal >"$MNT/same.txt"' 'remote same.txt equal'
race put new.txt 'printf equal >"$MNT/new.txt"' 'remote new.txt equal'
race put mark 'mkdir "$MNT/mark"' \
  'rest put mark --meta hdi_isfolder=true </dev/null'
race put link 'ln -s target "$MNT/link"' \
  'printf target | rest put link --meta is_symlink=true'
t_eq "link" "$(readlink "$MNT/link")" target
[ -d "$MNT/mark" ] || t_fail "no directory"
t_eq "conflicts" "$(conflicts)" "$before"

t_claim "7.7 edit against edit: the name shows theirs, a copy keeps mine"
race put edit.txt 'printf mine >"$MNT/edit.txt"' 'remote edit.txt theirs'
t_eq "the name" "$(cat "$MNT/edit.txt")" theirs
copy=$(copies edit)
t_eq "the copy" "$(cat "$copy")" mine
case $copy in
*/edit.conflict-"$(uname -n | cut -d. -f1)"-20[0-9][0-9]????T??????Z.txt) ;;
*) t_fail "its name: $copy" ;;
esac
cond=$(blobd_log | jq -r --arg n "$(basename "$copy")" \
  'select(.name == $n) | .if_none_match' | head -n 1)
t_eq "its condition" "$cond" "*"
t_eq "its blob" "$(rest get "$(basename "$copy")")" mine

t_claim "7.8 a copy is never the source of another"
mine=$(basename "$copy")
race put "$mine" 'printf two >"$MNT/$mine"' 'remote "$mine" other'
t_eq "copies" "$(copies edit | wc -l)" 2
copies edit | grep 'conflict.*conflict' && t_fail "a copy of a copy"
t_eq "theirs" "$(cat "$MNT/$mine")" other
t_eq "mine" "$(cat "$(copies edit | grep -v "$mine")")" two

t_claim "7.9 a copy's name fits 255 bytes, in whole characters"
long=$(printf 'é%.0s' $(seq 125)).txt
race put "$long" 'printf mine >"$MNT/$long"' 'remote "$long" theirs'
copy=$(find "$MNT" -maxdepth 1 -name 'éé*conflict*')
t_eq "mine" "$(cat "$copy")" mine
name=$(basename "$copy")
[ "$(printf %s "$name" | wc -c)" -le 255 ] || t_fail "too long: $name"
[ "${name%.txt}" != "$name" ] || t_fail "its ending is lost: $name"
printf %s "$name" | iconv -f UTF-8 -t UTF-16 >/dev/null ||
  t_fail "half a character: $name"

t_claim "7.10 and 1,024 characters; where none fits it is kept here, and said"
deep=$(printf 'd%.0s' $(seq 240))
deep=$deep/$deep/$deep/$deep
mkdir -p "$MNT/$deep"
for len in 55 20; do
  name=$(printf "%0${len}d" 7)
  race put "*$name" 'printf mine >"$MNT/$deep/$name"' \
    'remote "$deep/$name" theirs'
  t_eq "theirs" "$(cat "$MNT/$deep/$name")" theirs
  copy=$(find "$MNT/$deep" -name '0*conflict*')
  t_eq "mine, of $len" "$(cat "$copy")" mine
  path=${copy#"$MNT/"}
  if [ $len = 55 ]; then
    [ "$(printf %s "$path" | wc -m)" -le 1024 ] || t_fail "${#path}"
    t_eq "its blob" "$(rest get "$path")" mine
  fi
  rm "$copy"
done
sub=$deep/$(printf 'e%.0s' $(seq 40))
mkdir "$MNT/$sub"
blobd_hook op=put name="*/e*e/f" count=1
printf mine >"$MNT/$sub/f"
t_wait_for 15 is_held
remote "$sub/f" theirs
blobd_release
"$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 && t_fail "flush does not say it"
t_eq "set aside" "$(t_status set_aside)" 1
copy=$(find "$MNT/$sub" -name '*conflict*')
t_eq "mine" "$(cat "$copy")" mine
rm "$copy"
t_eq "set aside" "$(t_status set_aside)" 0

t_claim "7.11 deleted here, edited there: theirs stays and is shown"
before=$(conflicts)
race delete del.txt 'rm "$MNT/del.txt"' 'remote del.txt theirs'
t_eq "the name" "$(cat "$MNT/del.txt")" theirs
t_eq "the blob" "$(rest get del.txt)" theirs

t_claim "7.12 edited here, deleted there: made again"
race put gone.txt 'printf mine >"$MNT/gone.txt"' 'rest delete gone.txt'
t_eq "the blob" "$(rest get gone.txt)" mine
t_eq "its condition" "$(blobd_log | jq -r \
  'select(.name == "gone.txt" and .op == "put") | .if_none_match' |
  tail -n 1)" "*"

t_claim "7.13 a clean file's rename takes their version along"
race copy moved.txt 'mv "$MNT/ren.txt" "$MNT/moved.txt"' 'remote ren.txt theirs'
t_eq "the new name" "$(cat "$MNT/moved.txt")" theirs
[ ! -e "$MNT/ren.txt" ] || t_fail "the old name is there"
t_eq "old blobs" "$(rest count ren.txt)" 0
t_eq "the new blob" "$(rest get moved.txt)" theirs

t_claim "7.14 a dirty file's rename: mine under the new name, theirs at the old"
race put dirty.txt \
  'printf mine >"$MNT/dirty.txt"; mv "$MNT/dirty.txt" "$MNT/dirty2.txt"' \
  'remote dirty.txt theirs'
t_eq "the new name" "$(cat "$MNT/dirty2.txt")" mine
t_eq "the old name" "$(cat "$MNT/dirty.txt")" theirs
t_eq "the blobs" "$(rest get dirty2.txt; rest get dirty.txt)" minetheirs

t_claim "7.15 the source of a copy is gone: what is here is uploaded"
race copy near2.bin 'mv "$MNT/near.bin" "$MNT/near2.bin"' 'rest delete near.bin'
rest get near2.bin | cmp - "$T/big" || t_fail "the bytes"

t_claim "7.16 ... and what is nowhere goes, and is reported"
"$FOREBAY" evict "$MNT/far.bin" >/dev/null # its siblings were read
race copy far2.bin 'mv "$MNT/far.bin" "$MNT/far2.bin"' 'rest delete far.bin'
t_wait_for 5 gone "$MNT/far2.bin"
t_eq "blobs" "$(rest count far)" 0
t_eq "conflicts" "$(conflicts)" "$before"

t_claim "7.17 attributes against an edit: their bytes, the fields that I changed"
race setmeta attr.txt 'chmod 600 "$MNT/attr.txt"' \
  'printf theirs | rest put attr.txt --meta permissions=33261 \
    --meta posix_owner=42 --meta posix_group=43'
t_eq "the name" "$(cat "$MNT/attr.txt")" theirs
t_eq "the attributes" "$(stat -c %a:%u:%g "$MNT/attr.txt")" 600:42:43
says "$(rest head attr.txt)" "posix_owner: 42"
says "$(rest head attr.txt)" "permissions: $((0100600))"
t_eq "conflicts" "$(conflicts)" "$before"

t_claim "7.18 rmdir against a new remote child: the directory is back with it"
mkdir "$MNT/rm2"
flush
race delete rm2 'rmdir "$MNT/rm2"' 'remote rm2/theirs x'
t_wait_for 5 test -f "$MNT/rm2/theirs"
t_eq "what is in it" "$(ls "$MNT/rm2")" theirs

t_claim "7.19 a directory's rename against a new remote child: so is it"
race any "old/*" 'mv "$MNT/old" "$MNT/new"' 'remote old/theirs x'
t_eq "the new one" "$(ls "$MNT/new")" $'a\nb'
t_wait_for 5 test -f "$MNT/old/theirs"
t_eq "the old one" "$(ls "$MNT/old")" theirs
t_eq "conflicts" "$(conflicts)" "$before"

t_claim "7.20 more than sixteen copies of a name stay here, and are reported"
for i in $(seq 17); do
  blobd_hook op=put name=held count=1
  printf 'mine %s' "$i" >"$MNT/held"
  t_wait_for 15 is_held
  remote held "theirs $i"
  blobd_release
  "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || [ "$i" = 17 ] ||
    t_fail "flush $i"
done
t_eq "copies" "$(copies held | wc -l)" 17
cat "$MNT"/held.conflict-* | grep -o 'mine [0-9]*' | sort -u >"$T/mine"
t_eq "all of mine" "$(wc -l <"$T/mine")" 17
t_eq "copies in the store" "$(rest count held.conflict-)" 16
t_eq "set aside" "$(t_status set_aside)" 1
t_eq "the name" "$(cat "$MNT/held")" "theirs 17"
"$FOREBAY" conflicts "$MNT" --json >"$T/json"
t_eq "on this host only" \
  "$(jq '[.[] | select(.here_only)] | length' "$T/json")" 1

t_claim "7.21 a writer that has it open goes on in the copy"
exec 5>>"$MNT/open.txt"
printf ' one' >&5
remote open.txt theirs
sleep 1.1
ls -l "$MNT" >/dev/null
printf ' two' >&5
exec 5>&-
"$FOREBAY" flush "$MNT" >/dev/null 2>&1 || true # 7.20's is set aside
t_eq "the name" "$(cat "$MNT/open.txt")" theirs
t_eq "the copy" "$(cat "$(copies open)")" "base one two"

t_claim "and another host sees the same, but for what stays here"
md5sum "$MNT"/*.txt "$MNT"/*.bin | sed 's|/.*/||' | sort >"$T/sums"
t_umount
CACHE=$CACHE.2 t_mount "$BLOBD_URL/races"
md5sum "$MNT"/*.txt "$MNT"/*.bin | sed 's|/.*/||' | sort |
  diff - "$T/sums" || t_fail "another host sees other files"
t_umount
