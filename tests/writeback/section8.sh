#!/bin/bash
# WRITEBACK.md section 8, line by line: directories, names, special blobs.
# sanitize: yes
# shellcheck disable=SC2011,SC2015 # plain names only; conditions that cannot fail halfway
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/special" "$@"; }
remote() { printf '%s' "$2" | rest put "$1"; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush: $(cat "$T/flush.log")"; }
blobs() { rest list "$@" | grep -v ^.forebay | sort | xargs; }
from() { echo $(($(blobd_log | wc -l) + 1)); }
# What was done at the store since line $1 of its log, in order.
done_since() {
  blobd_log "$1" | jq -r 'select(.op != "lease") | "\(.op) \(.name)"' | xargs
}
# err COMMAND...: what errno it says.
err() {
  python3 - "$@" <<'PY'
import errno, os, sys
what, path = sys.argv[1], sys.argv[2]
try:
    if what == "read":
        os.close(os.open(path, os.O_RDONLY))
    elif what == "write":
        os.close(os.open(path, os.O_WRONLY))
    elif what == "trunc":
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    elif what == "cat":
        open(path, "rb").read()
    elif what == "chmod":
        os.chmod(path, 0o600)
    elif what == "mv":
        os.rename(path, sys.argv[3])
    elif what == "rm":
        os.unlink(path)
    print("done")
except OSError as e:
    print(errno.errorcode[e.errno])
PY
}

blobd_start
blobd_container special
rest fill <<'END'
imp/only x
imp/mv/file x
imp/sub/dir/file x
imp/new/file x
imp/in/deep/file x
mode/f x
both blob
both/child x
mv1/f x
mv3/f x
cold archived
cold2 archived
held policy
cpk secret
END
for d in rm1 rm2 mv1 mv3; do
  rest put $d/ --meta hdi_isfolder=true --meta permissions=16832 </dev/null
done
for d in rm2 mv3; do
  rest put $d --meta hdi_isfolder=true --meta permissions=16832 </dev/null
done
rest tier cold Archive
rest tier cold2 Archive
printf log | rest put app --type AppendBlob
head -c 512 /dev/zero | rest put page --type PageBlob
blobd_ctl POST mark container=special name=held immutable=1
blobd_ctl POST mark container=special name=cpk cpk=1
export FOREBAY_TEST_REFUSE_WAIT_MS=400
t_mount "$BLOBD_URL/special" freshness=1,writeback_open=2

t_claim "8.1 the last name of a prefix goes: the marker is made first"
ls -R "$MNT" >/dev/null
at=$(from)
rm "$MNT/imp/only"
mv "$MNT/imp/mv/file" "$MNT/moved"
mv "$MNT/imp/sub/dir" "$MNT/dir"
# Not by what the store shows: by what was never sent, and by rmdir.
touch "$MNT/imp/new/tmp"
rm "$MNT/imp/new/file" "$MNT/imp/new/tmp"
rm "$MNT/imp/in/deep/file"
rmdir "$MNT/imp/in/deep"
flush
t_eq "blobs" "$(blobs imp/)" "imp/in imp/mv imp/new imp/sub"
done=$(done_since "$at")
case $done in
*"put imp/mv "*"delete imp/mv/file"*) ;;
*) t_fail "the marker of imp/mv is not first: $done" ;;
esac
case $done in
*"put imp/sub "*"delete imp/sub/dir/file"*) ;;
*) t_fail "the marker of imp/sub is not first: $done" ;;
esac
rmdir "$MNT/imp/mv"
flush
t_eq "blobs" "$(blobs imp/)" "imp/in imp/new imp/sub"
t_eq "here" "$(ls "$MNT/imp" | xargs)" "in new sub"

t_claim "8.2 a tree of prefixes that goes as a whole costs no marker"
remote tree/a/b/f x
t_wait_for 5 test -e "$MNT/tree/a/b/f"
at=$(from)
rm -r "$MNT/tree"
flush
t_eq "done" "$(done_since "$at")" "delete tree/a/b/f"

t_claim "8.3 chmod of a prefix makes its marker"
at=$(from)
chmod 700 "$MNT/mode"
flush
t_eq "done" "$(done_since "$at")" "put mode"
t_eq "its mode" "$(rest head mode | sed -n 's/x-ms-meta-permissions: //p')" \
  $((040700))

t_claim "8.4 a directory's own mtime alone is sent at flush"
mkdir "$MNT/quiet"
flush
at=$(from)
touch "$MNT/quiet/a" "$MNT/quiet/b"
flush
t_eq "done" "$(done_since "$at" | tr ' ' '\n' | sort | uniq -c | xargs)" \
  "2 put 1 quiet 1 quiet/a 1 quiet/b 1 setmeta"
mtime() { rest head quiet | sed -n 's/x-ms-meta-modtime: //p'; }
here() { python3 -c 'import os, sys; print(os.stat(sys.argv[1]).st_mtime_ns)' \
  "$MNT/quiet"; }
t_eq "the time" "$(mtime)" "$(here)"

t_claim "8.5 ... or when it was quiet for writeback_open, once"
at=$(from)
for i in 1 2 3; do
  touch "$MNT/quiet/n$i"
  sleep 0.3
done
sent() { [ "$(mtime)" = "$(here)" ]; }
t_wait_for 10 sent
t_eq "times" "$(done_since "$at" | grep -o setmeta | wc -l)" 1
t_eq "of a prefix" "$(blobs dir)" dir/file

t_claim "8.6 d and d/ are both markers: read, and both gone at rmdir"
t_eq "the mode" "$(stat -c %a "$MNT/rm1")" 700
rmdir "$MNT/rm1" "$MNT/rm2"
flush
t_eq "blobs" "$(blobs rm)" ""
sleep 1.1
[ ! -e "$MNT/rm1" ] && [ ! -e "$MNT/rm2" ] || t_fail "they are back"
t_eq "both" "$(ls "$MNT/mv1")" f
mv "$MNT/mv1" "$MNT/mv2"
mv "$MNT/mv3" "$MNT/mv4"
flush
t_eq "blobs" "$(blobs mv)" "mv2 mv2/f mv4 mv4/f"
t_eq "its mode" "$(stat -c %a "$MNT/mv4")" 700
t_eq "its mode" "$(stat -c %a "$MNT/mv2")" 700
t_eq "here" "$(ls "$MNT/mv2")" f

t_claim "8.7 a blob and a prefix of one name: the directory, and the blob beside"
t_eq "the directory" "$(ls "$MNT/both")" child
shadow=$(find "$MNT" -maxdepth 1 -name 'both?*')
t_eq "the blob" "$(cat "$shadow")" blob
printf mine >"$shadow"
flush
t_eq "written" "$(rest get both)" mine
rm "$shadow"
flush
t_eq "blobs" "$(blobs both)" both/child

t_claim "8.8 names that the service would change are escaped, and back"
mkdir "$MNT/esc"
python3 - "$MNT/esc" <<'PY'
import os, sys
d = sys.argv[1].encode()
names = [b"dot.", b"back\\slash", b"\x01\x1f", b"\xff\xfe", b"...", b"a%2Fb",
         b"caf\xc3\xa9", b"\xe2\x80\x9bq", b"sp ace ", b"plus+&?#", b"\x7f"]
for n in names:
    with open(os.path.join(d, n), "wb") as f:
        f.write(n)
PY
flush
list() {
  python3 - "$1" <<'PY'
import os, sys
d = sys.argv[1].encode()
for n in sorted(os.listdir(d)):
    assert open(os.path.join(d, n), "rb").read() == n, n
    print(n)
PY
}
list "$MNT/esc" >"$T/names"
t_eq "names" "$(wc -l <"$T/names")" 11
MNT=$T/mnt2 CACHE=$T/cache2 t_mount "$BLOBD_URL/special"
list "$T/mnt2/esc" | diff - "$T/names" || t_fail "another host reads others"
MNT=$T/mnt2 t_umount

t_claim "8.9 .forebay/ is reserved and hidden"
[ ! -e "$MNT/.forebay" ] || t_fail "it is shown"
mkdir "$MNT/.forebay" 2>/dev/null && t_fail "it can be made"
t_eq "its id" "$(rest get .forebay/id | wc -c)" 32

t_claim "8.10 the archive tier: EIO, no writing, deleting"
t_eq read "$(err read "$MNT/cold")" EIO
t_eq write "$(err write "$MNT/cold")" EPERM
t_eq trunc "$(err trunc "$MNT/cold")" EPERM
t_eq chmod "$(err chmod "$MNT/cold")" EPERM
t_eq mv "$(err mv "$MNT/cold" "$MNT/warm")" EPERM
t_eq over "$(err mv "$MNT/moved" "$MNT/cold")" EPERM
rm "$MNT/cold"
flush
t_eq "blobs" "$(blobs cold)" cold2

t_claim "8.11 ... and back, with the same ETag"
remote tier x
t_wait_for 5 test -e "$MNT/tier"
t_eq "online" "$(cat "$MNT/tier")" x
"$FOREBAY" evict "$MNT/tier" >/dev/null
rest tier tier Archive
sleep 1.1
t_eq "archived" "$(err read "$MNT/tier")" EIO

t_claim "8.12 append and page blobs: readable, no writing"
t_eq "append" "$(cat "$MNT/app")" log
t_eq "page" "$(stat -c %s "$MNT/page")" 512
cat "$MNT/page" >/dev/null
for f in app page; do
  t_eq "write $f" "$(err write "$MNT/$f")" EPERM
  t_eq "mv $f" "$(err mv "$MNT/$f" "$MNT/x")" EPERM
done
chmod 600 "$MNT/app"
rm "$MNT/page"
flush
t_eq "blobs" "$(blobs page)" ""

t_claim "8.13 a policy: EPERM at once, and nothing is held up"
t_eq "read" "$(cat "$MNT/held")" policy
for op in write trunc chmod rm; do
  t_eq "$op" "$(err $op "$MNT/held")" EPERM
done
t_eq "pending" "$(t_status pending)" 0

t_claim "8.14 customer keys: EACCES, the name stays"
t_eq "read" "$(err cat "$MNT/cpk")" EACCES
t_eq "state" "$(t_status state)" online
[ -e "$MNT/cpk" ] || t_fail "the name is gone"
chmod 600 "$MNT/cpk" # the store refuses it later
aside() { [ "$(t_status set_aside)" = 1 ]; }
t_wait_for 20 aside
t_eq "state" "$(t_status state)" online
rm "$MNT/cpk"

t_claim "8.15 a container that was made again is noticed, and nothing deleted"
sums() { find "$MNT/quiet" "$MNT/esc" "$MNT/moved" | sort | md5sum; }
before=$(sums)
cat "$MNT/moved" >/dev/null
rest delete-container
blobd_container special
sleep 1.1
ls "$MNT" >/dev/null 2>&1 || true
is_gone() { [ "$(t_status state)" = gone ]; }
t_wait_for 15 is_gone
t_eq "what is shown" "$(sums)" "$before"
t_eq "local bytes" "$(cat "$MNT/moved")" x
echo local >"$MNT/kept"
t_eq "sent" "$(blobs)" ""
t_umount
"$FOREBAY" mount "$BLOBD_URL/special" "$MNT" -o "cache=$CACHE" 2>"$T/err" &&
  t_fail "it mounts on another container"
t_eq "one line" "$(wc -l <"$T/err")" 1
grep -q "another container" "$T/err" || t_fail "says: $(cat "$T/err")"
