#!/bin/bash
# The store misbehaves: each fault has the outcome that forebay.7 names, and a
# sweep lets request after request of one scenario fail in each way.
# FULL=1: every kind at every request, instead of some.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

URL() { echo "$BLOBD_URL/faults"; }
rest() { "$TOP/tests/lib/azure_rest.py" "$(URL)" "$@"; }
ms() { date +%s%3N; }
state_is() { [ "$(t_status state)" = "$1" ]; }
drained() { [ "$(t_status pending)" = 0 ]; }
has() { [ "$(rest get "$1" 2>/dev/null)" = "$2" ]; }
# What comes from the store, and not from the cache.
# (A release is asynchronous: it may be in use for a moment yet.)
cold() { t_wait_for 5 "$FOREBAY" evict "$@" >/dev/null 2>&1; }
nothing_lost() {
  t_wait_for 30 drained
  t_eq conflicts "$(t_status conflicts)" 0
  t_eq "set aside" "$(t_status set_aside)" 0
  t_wait_for 30 state_is online
}

blobd_start --oauth right-token
blobd_container faults
blobd_container token

# A second mount, with a token, which will be refused at the end.
MNT2=$T/mnt2
printf '%s\n' AZURE_CLIENT_ID=id AZURE_TENANT_ID=tenant \
  AZURE_CLIENT_SECRET=secret \
  "AZURE_AUTHORITY_HOST=http://127.0.0.1:$BLOBD_PORT" >"$T/creds"
chmod 600 "$T/creds"
MNT=$MNT2 CACHE=$T/cache2 t_mount "$BLOBD_URL/token" \
  "store_timeout=3,freshness=0,credentials=$T/creds"
echo one >"$MNT2/token"
"$FOREBAY" flush "$MNT2"
blobd_ctl POST token token=another >/dev/null

t_mount "$(URL)" store_timeout=3,freshness=1
"$TOP/tests/lib/azure_rest.py" "$(URL)" put whole <"$FOREBAY"
head -c 3000000 "$FOREBAY" | rest put md5
echo local >"$MNT/own"
"$FOREBAY" flush "$MNT"

t_claim "503 with Retry-After: not asked again before then"
cold "$MNT/own"
blobd_fault 503:1 op=get count=1 >/dev/null
begin=$(ms)
t_eq content "$(cat "$MNT/own")" local
took=$(($(ms) - begin))
[ $took -ge 1000 ] || t_fail "$took ms"
t_took $took 2900 "a read"

t_claim "500, 429, a reset, half a body, a short one: repeated"
for kind in 500 429 502 reset half wrong-length 200-for-range; do
  cold "$MNT/own" "$MNT/md5"
  blobd_fault $kind op=get count=2 >/dev/null
  cmp "$MNT/md5" <(head -c 3000000 "$FOREBAY") || t_fail $kind
  t_eq "content after $kind" "$(cat "$MNT/own")" local
  blobd_fault_clear >/dev/null
done

t_claim "a flipped byte on the way here is noticed, and fetched again"
cold "$MNT/md5"
blobd_fault flip op=get name=md5 count=2 >/dev/null
cmp "$MNT/md5" <(head -c 3000000 "$FOREBAY") || t_fail "corrupt"
cold "$MNT/md5"
blobd_counts_reset >/dev/null
blobd_fault flip op=get name=md5 count=0 >/dev/null
if cat "$MNT/md5" >"$T/out" 2>"$T/err"; then
  t_fail "what never matches its checksum was handed out"
fi
grep -q 'Input/output' "$T/err" || t_fail "$(cat "$T/err")"
[ "$(blobd_count get)" -le 6 ] || t_fail "asked for without end"
blobd_fault_clear >/dev/null
cmp "$MNT/md5" <(head -c 3000000 "$FOREBAY") || t_fail "does not recover"

t_claim "a flipped byte on the way there is refused, and sent again"
blobd_fault flip op=put name=flipped count=2 >/dev/null
blobd_fault flip op=putblock count=2 >/dev/null
head -c 100000 "$FOREBAY" >"$MNT/flipped"
head -c $((9 * MiB)) /dev/urandom >"$T/blocks"
cp "$T/blocks" "$MNT/blocks"
nothing_lost
rest get flipped | cmp - <(head -c 100000 "$FOREBAY") || t_fail "torn"
rest get blocks | cmp - "$T/blocks" || t_fail "torn blocks"

t_claim "a stall ends by itself, and the request is made again"
cold "$MNT/own"
blobd_fault stall op=get count=1 >/dev/null
begin=$(ms)
t_eq content "$(cat "$MNT/own")" local
t_took $(($(ms) - begin)) 2900 "a read"
blobd_fault_clear >/dev/null

t_claim "applied and not answered: settled, not repeated, no conflict"
blobd_fault reset-after op=put name=answerless count=1 >/dev/null
blobd_fault reset-after op=delete name=flipped count=1 >/dev/null
echo once >"$MNT/answerless"
rm "$MNT/flipped"
nothing_lost
t_eq "requests that were applied" \
  "$(blobd_log | grep -c '"name":"answerless"')" 1
if rest get flipped >/dev/null 2>&1; then t_fail "a deletion is lost"; fi

t_claim "a lease of somebody else: reported, waits, then goes on"
blobd_fault 412:LeaseIdMissing op=put name=own count=0 >/dev/null
echo changed >"$MNT/own"
says_lease() { "$FOREBAY" status "$MNT" --pending | grep -q Lease; }
t_wait_for 10 says_lease
t_eq conflicts "$(t_status conflicts)" 0
t_eq "what the store holds" "$(rest get own)" local
blobd_fault_clear >/dev/null
nothing_lost
t_eq "what the store holds" "$(rest get own)" changed

t_claim "refused credentials, or a wrong clock: denied, nothing lost, told why"
blobd_fault 403:AuthenticationFailed op=any count=0 >/dev/null
echo denied >"$MNT/denied"
t_wait_for 10 state_is denied
t_status state_why | grep -q 'clock' || t_fail "$(t_status state_why)"
t_eq "what is local" "$(cat "$MNT/denied")" denied
blobd_fault_clear >/dev/null
nothing_lost
t_eq "what the store holds" "$(rest get denied)" denied

t_claim "a container that is away: gone, nothing taken for deleted"
blobd_fault 404:ContainerNotFound op=any count=0 >/dev/null
echo away >"$MNT/away"
t_wait_for 10 state_is gone
sleep 1.2 # nothing is fresh any more
t_eq "what is local" "$(cat "$MNT/own" "$MNT/away")" "changed
away"
blobd_fault_clear >/dev/null
nothing_lost
t_eq "what the store holds" "$(rest get away)" away

t_claim "one that was deleted and made again is another one: nothing is sent"
rest delete-container
echo stray >"$MNT/stray"
t_wait_for 10 state_is gone
rest create-container
sleep 3
t_eq "what is in the new one" "$(rest list)" ""
t_eq state "$(t_status state)" gone
t_status state_why | grep -q another || t_fail "$(t_status state_why)"
t_eq "what is local" "$(cat "$MNT/own" "$MNT/stray" "$MNT/md5" | wc -c)" \
  $((8 + 6 + 3000000))
t_umount

t_claim "a token that ended is renewed"
FIRST=$MNT
MNT=$MNT2
echo two >"$MNT/token"
"$FOREBAY" flush "$MNT"
t_eq "in the store" \
  "$("$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/token" get token)" two
nothing_lost
t_umount
MNT=$FIRST

t_claim "the sweep: what one fault anywhere does"
CACHE=$T/cache3
blobd_container sweep
t_mount "$BLOBD_URL/sweep" store_timeout=3,freshness=1
some=
if [ -z "${FULL:-}" ]; then
  some=$(python3 -c 'import random
kinds = ("500", "503:1", "429", "reset", "reset-after", "half", "flip",
         "wrong-length", "404:ContainerNotFound", "412:LeaseIdMissing")
print(*(f"{k}@{random.randint(1, 34)}" for k in random.sample(kinds, 3)))')
fi
# shellcheck disable=SC2086 # words
"$TOP/tests/crash/store_sweep.py" "$MNT" "$BLOBD_URL/sweep" "$FOREBAY" \
  "${SEED:-1}" $some
t_umount
blobd_stop
