#!/bin/bash
# WRITEBACK.md section 6, line by line: listings against our own changes.
# sanitize: yes
# shellcheck disable=SC2011,SC2015 # plain names only; conditions that cannot fail halfway
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/lists" "$@"; }
remote() { printf '%s' "$2" | rest put "$1"; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush: $(cat "$T/flush.log")"; }
is_held() { [ "$(blobd_held)" -ge 1 ]; }
shows() { [ "$(ls "$MNT/$1" | xargs)" = "$2" ]; }
reads() { [ "$(cat "$MNT/$1" 2>/dev/null)" = "$2" ]; }
expire() { sleep 1.05; } # of freshness
gets() { blobd_reads "lists/$1" | jq '[.[].gets] | add // 0'; }

blobd_start
blobd_container lists
{
  printf 'w/a%s x\n' 0 1 2 3 4 5 6 7 8 9
  printf 'w/f%s %s\n' 1 1 2 2 3 3 4 4 5 5 6 6
  printf 'd/%s\n' 'f1 1' 'f2 2' 'f3 3' 'f4 4' 'g6 6' 'new new'
  printf '%s base\n' face gone keep same moved open after
} | rest fill
head -c 20M /dev/urandom >"$T/large"
t_mount "$BLOBD_URL/lists" freshness=1
cat "$MNT"/[dw]/* "$MNT"/[a-z]* >/dev/null 2>&1 || true

t_claim "6.1 a page asked for before a change of ours does not undo it"
blobd_ctl POST pages max=10 # the root in one, w in two
expire
blobd_hook op=list name=w/ at=after
# Not ls: the kernel lets nobody change a directory that is being read.
"$FOREBAY" prefetch --meta "$MNT/w" >"$T/prefetch" 2>&1 &
lister=$!
t_wait_for 10 is_held
blobd_release count=1 keep=1
t_wait_for 10 is_held # the second page, with f1 to f6 as they were
printf 4b >"$MNT/w/f4"
rm "$MNT/w/f5"
mv "$MNT/w/f6" "$MNT/w/g6"
printf new >"$MNT/w/new"
flush
blobd_release
wait "$lister" || t_fail "the listing failed: $(cat "$T/prefetch")"
names="a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 f1 f2 f3 f4 g6 new"
t_eq "shown" "$(ls "$MNT/w" | xargs)" "$names"
t_eq "f4" "$(cat "$MNT/w/f4")" 4b
expire
t_eq "and listed again" "$(ls "$MNT/w" | xargs)" "$names"
t_eq "f4" "$(cat "$MNT/w/f4")" 4b

t_claim "6.2 absence counts only after the empty marker, whatever pages look like"
blobd_ctl POST pages max=1
expire
blobd_fault empty-page op=list name=d/
t_eq "shown" "$(ls "$MNT/d" | xargs)" "f1 f2 f3 f4 g6 new"
rest delete d/f1
expire
t_wait_for 5 shows d "f2 f3 f4 g6 new"

t_claim "6.3 a failed walk proves nothing"
rest delete d/f2
remote d/a0 x
for fault in 400:Strange 403:AuthorizationFailure corrupt-xml; do
  expire
  blobd_fault $fault op=list name=d/ count=0 skip=2
  ls "$MNT/d" >"$T/ls" 2>/dev/null || true
  [ -e "$MNT/d/f2" ] || t_fail "f2 went by a walk that failed ($fault)"
  blobd_fault_clear
done
blobd_ctl POST pages max=0
is_online() { [ "$(t_status state)" = online ]; }
t_wait_for 10 is_online
expire
t_wait_for 5 shows d "a0 f3 f4 g6 new"

t_claim "6.4 a missing container never means that everything was deleted"
expire
blobd_fault 404:ContainerNotFound op=list count=0
ls "$MNT/d" >"$T/ls" 2>/dev/null || true
[ -e "$MNT/d/f3" ] || t_fail "f3 is gone"
t_eq "bytes" "$(cat "$MNT/d/f3")" 3
blobd_fault_clear
t_wait_for 10 is_online
t_wait_for 5 shows d "a0 f3 f4 g6 new"

t_claim "6.5 a name that is owed keeps its local face"
blobd_hook op=put name=face count=1
printf mine >"$MNT/face"
t_wait_for 10 is_held
rest set-meta face permissions=$((0100600)) # moves its ETag
expire
ls "$MNT" >/dev/null
t_eq "bytes" "$(cat "$MNT/face")" mine
blobd_release
flush
t_eq "the blob" "$(rest get face)" mine
t_eq "conflicts" "$(t_status conflicts)" 0

t_claim "6.6 shown is the listing, less what nobody wants, and what is new here"
blobd_hook op=delete name=gone count=1
rm "$MNT/gone"
printf new >"$MNT/fresh"
t_wait_for 10 is_held
expire
ls "$MNT" >"$T/ls"
grep -qx gone "$T/ls" && t_fail "gone is shown"
grep -qx fresh "$T/ls" || t_fail "fresh is not shown"
[ ! -e "$MNT/gone" ] || t_fail "gone is there"
blobd_release
flush

t_claim "6.7 a moved ETag is not moved content: small"
before=$(gets same)
remote same base # the same bytes again
expire
ls -l "$MNT" >/dev/null
t_eq "bytes" "$(cat "$MNT/same")" base
rest set-meta same permissions=$((0100640)) posix_owner=7
expire
mode() { [ "$(stat -c %a:%u "$MNT/same")" = 640:7 ]; }
t_wait_for 5 mode
t_eq "bytes" "$(cat "$MNT/same")" base
t_eq "fetched again" "$(gets same)" "$before"

t_claim "6.8 ... and in blocks"
cp "$T/large" "$MNT/large"
flush
rest set-meta large permissions=$((0100604))
expire
mode() { [ "$(stat -c %a "$MNT/large")" = 604 ]; }
t_wait_for 5 mode
cmp "$T/large" "$MNT/large"
t_eq "fetched" "$(gets large)" 0

t_claim "6.9 other bytes are new content; who has it open keeps the old"
exec 5<"$MNT/open"
remote moved other
remote open other
expire
t_wait_for 5 reads moved other
ls -l "$MNT" >/dev/null
t_eq "the open one" "$(cat <&5)" base
exec 5<&-
t_wait_for 5 reads open other

t_claim "6.10 after a restart what was listed before decides nothing"
flush
for i in 1 2 3; do
  printf 'mine %s' $i >"$MNT/after"
  flush
done
t_umount
remote after theirs
t_mount "$BLOBD_URL/lists" freshness=1
t_eq "after" "$(cat "$MNT/after")" theirs
printf mine >"$MNT/after"
flush
remote after "theirs again"
expire
t_wait_for 5 reads after "theirs again"
t_eq "conflicts" "$(t_status conflicts)" 0
t_umount

t_claim "6.11 a negative answer: HEAD says 404 and nothing lies below"
remote only/below/file x
t_mount "$BLOBD_URL/lists" freshness=0,store_timeout=2
blobd_counts_reset
[ ! -e "$MNT/nothing" ] || t_fail "nothing is there"
[ "$(blobd_count head)" -ge 1 ] && [ "$(blobd_count list)" -ge 1 ] ||
  t_fail "it was not asked: $(blobd_counts)"
[ -d "$MNT/only/below" ] || t_fail "a prefix is not seen"
blobd_fault 500:InternalError op=head name=only/unsure count=0
python3 - "$MNT/only/unsure" <<'PY'
import errno, os, sys
try:
    os.stat(sys.argv[1])
    sys.exit("it is there")
except OSError as e:
    sys.exit(0 if e.errno == errno.EIO else "says %s" % e)
PY
t_umount
