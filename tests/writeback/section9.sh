#!/bin/bash
# WRITEBACK.md section 9, line by line: the dir: store on a real directory that
# other programs change.  What one call of the store does is in the unit tests.
# sanitize: yes
# shellcheck disable=SC2015 # plain names only; conditions that cannot fail halfway
. "$(dirname "$0")/../lib/common.sh"
t_begin

flush() {
  "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 ||
    t_fail "flush: $(cat "$T/flush.log")"
}
copies() { find "$MNT" -name "$1.conflict-*" | wc -l; }
reads() { [ "$(cat "$MNT/$1" 2>/dev/null)" = "$2" ]; }
# Everything of the store but its own corner.
store() { (cd "$STORE" && find . -mindepth 1 -not -path './.forebay*' | sort | xargs); }

mkdir "$STORE/sub" "$T/outside"
for f in kept edit swap moved; do echo old >"$STORE/$f"; done

t_mount "dir:$STORE" freshness=0
cat "$MNT"/[a-z]* >/dev/null 2>&1 || true

t_claim "9.1 the ETag is the file: bytes written in place, the mtime put back"
touch -d '2020-01-01' "$STORE/edit"
reads edit old || t_fail "not the bytes"
echo new >"$STORE/edit" # as long as before
touch -d '2020-01-01' "$STORE/edit"
reads edit new || t_fail "it still reads '$(cat "$MNT/edit")'"

t_claim "9.2 ... and a second change within the same tick of the clock"
for i in 1 2 3 4 5 6 7 8; do
  echo "n$i" >"$STORE/edit"
  reads edit "n$i" || t_fail "n$i reads as $(cat "$MNT/edit")"
done

t_claim "9.3 a file put in its place; who has it open reads on"
exec 5<"$MNT/swap"
echo put >"$STORE/.swap"
mv "$STORE/.swap" "$STORE/swap"
reads swap put || t_fail "it reads '$(cat "$MNT/swap")'"
t_eq "the open one" "$(cat <&5)" old
exec 5<&-

t_claim "9.4 attributes change without the bytes, both ways; nothing is fetched"
echo old >"$MNT/mode"
flush
before=$(t_status miss_bytes)
chmod 640 "$STORE/mode"
chown 12:34 "$STORE/mode"
t_eq "here" "$(stat -c %a:%u:%g "$MNT/mode")" 640:12:34
chmod 600 "$MNT/mode"
touch -d '2021-02-03 04:05:06.789' "$MNT/mode"
flush
t_eq "there" "$(stat -c '%a %y' "$STORE/mode")" "$(stat -c '%a %y' "$MNT/mode")"
reads mode old || t_fail "not the bytes"
t_eq "fetched" "$(t_status miss_bytes)" "$before"

t_claim "9.5 what was noted of a file goes along when it is moved by hand"
mv "$STORE/moved" "$STORE/sub/moved"
[ ! -e "$MNT/moved" ] || t_fail "it is still there"
reads sub/moved old || t_fail "it is not at its new place"

t_claim "9.6 a directory is its own marker: made, kept when empty, and removed"
mkdir "$STORE/theirs"
[ -d "$MNT/theirs" ] || t_fail "theirs is not shown"
mkdir -m 750 "$MNT/ours"
echo x >"$MNT/ours/only"
flush
t_eq "its mode" "$(stat -c %a "$STORE/ours")" 750
rm "$MNT/ours/only"
flush
[ -d "$STORE/ours" ] && [ -d "$MNT/ours" ] || t_fail "it went with its file"
rmdir "$MNT/ours" "$MNT/theirs"
flush
[ ! -e "$STORE/ours" ] && [ ! -e "$STORE/theirs" ] || t_fail "they stay"

t_claim "9.7 no symlink leads out of the store, not even one put there later"
echo secret >"$T/outside/file"
ln -s "$T/outside" "$STORE/link"
t_eq "it is a symlink" "$(readlink "$MNT/link")" "$T/outside"
mkdir "$MNT/dir"
echo 1 >"$MNT/dir/file"
flush
t_umount
t_mount "dir:$STORE" freshness=forever
ls "$MNT/dir" "$MNT/sub" >/dev/null
cat "$MNT"/[a-z]* "$MNT/sub/moved" >/dev/null 2>&1 || true
mv "$STORE/dir" "$STORE/dir2"
ln -s "$T/outside" "$STORE/dir"
echo 2 >"$MNT/dir/file"
echo 3 >"$MNT/dir/new"
timeout 3 "$FOREBAY" flush "$MNT" >/dev/null 2>&1 || true
t_eq "outside" "$(ls "$T/outside")" file
t_eq "its bytes" "$(cat "$T/outside/file")" secret
rm "$STORE/dir"
mv "$STORE/dir2" "$STORE/dir"
flush
# It had gone, as far as could be told: ours may have lost against it.
t_eq "in its place again" "$(cat "$STORE/dir/new")" 3
grep -qx 2 "$STORE"/dir/file* || t_fail "what was written is nowhere"
rm "$MNT"/dir/file*
flush

t_claim "9.8 create: a name that appeared meanwhile is not replaced"
echo theirs >"$STORE/created"
echo ours >"$MNT/created"
flush
t_eq "the store's" "$(cat "$STORE/created")" theirs
t_eq "shown" "$(cat "$MNT/created")" theirs
t_eq "copies" "$(copies created)" 1
t_eq "ours" "$(cat "$STORE"/created.conflict-*)" ours

t_claim "9.9 replace: what was changed meanwhile is put back, and ours beside it"
echo theirs >"$STORE/kept"
echo ours >"$MNT/kept"
flush
t_eq "the store's" "$(cat "$STORE/kept")" theirs
t_eq "ours" "$(cat "$STORE"/kept.conflict-*)" ours

t_claim "9.10 delete: what was changed meanwhile stays, and is shown"
echo theirs >"$STORE/sub/moved"
rm "$MNT/sub/moved"
rm "$MNT/swap"
flush
t_eq "the store's" "$(cat "$STORE/sub/moved")" theirs
shown() { reads sub/moved theirs; }
t_wait_for 5 shown
[ ! -e "$STORE/swap" ] || t_fail "the other one stays"

t_claim "9.11 nothing is left over in the store"
t_umount
t_eq "names" "$(store | sed 's/conflict-[^ ]*/conflict/g')" \
  "./created ./created.conflict ./dir ./dir/new ./edit \
./kept ./kept.conflict ./link ./mode ./sub ./sub/moved"
t_eq "temporary files" \
  "$(find "$STORE/.forebay" -type f -not -name id -not -name lock)" ""

t_claim "9.12 the manual says that writers in place cannot be fenced"
man -l "$TOP/man/forebay.7" 2>/dev/null | col -b | tr -s ' \n' ' ' >"$T/man"
[ -s "$T/man" ] || tr -s ' \n' ' ' <"$TOP/man/forebay.7" >"$T/man"
grep -q "in place" "$T/man" || t_fail "it does not"
