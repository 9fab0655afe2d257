#!/bin/bash
# Who may do what: the control socket, the cache directory, secrets; and what
# forebay doctor says.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

command -v setpriv >/dev/null || t_skip "there is no setpriv"
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
# doctor CHECK STATE ARGUMENT...: that row is in that state.
doctor() {
  local check=$1 state=$2
  shift 2
  "$FOREBAY" doctor "$@" --json >"$T/json" || true
  t_eq "$check" "$(jq -r --arg c "$check" \
    '.[] | select(.check == $c) | .state' "$T/json")" "$state"
}

blobd_start
blobd_seed container=safe prefix=d/ count=3 size=1000 >/dev/null
chmod 755 "$T" "$CACHE"
t_mount "$BLOBD_URL/safe"
cat "$MNT"/d/* >/dev/null
echo private >"$MNT/private"
chmod 600 "$MNT/private"
SOCK=/run/forebay/$(t_status device).sock
WORKER=$(t_status worker_pid)
KEEPER=$(t_status keeper_pid)

t_claim "another user reaches neither status nor any command"
if nobody "$FOREBAY" status "$MNT" 2>"$T/err"; then t_fail "status"; fi
if nobody "$FOREBAY" evict "$MNT" 2>"$T/err"; then t_fail "evict"; fi
if nobody cat "$MNT/private" 2>/dev/null; then t_fail "a private file"; fi

t_claim "... not even through a socket that somebody has opened to all"
chmod 666 "$SOCK"
if nobody "$FOREBAY" status "$MNT" >"$T/out" 2>"$T/err"; then
  t_fail "status: $(cat "$T/out")"
fi
grep -q 'only root and the owner' "$T/err" || t_fail "$(cat "$T/err")"
chmod 600 "$SOCK"
"$FOREBAY" status "$MNT" >/dev/null

t_claim "another user reads nothing in the cache directory"
for path in "$CACHE"/index.db* "$CACHE/data" "$CACHE/lock" \
  "$(find "$CACHE/data" -type f | head -n 1)"; do
  if nobody head -c 1 "$path" >/dev/null 2>&1 ||
    nobody ls "$path/" >/dev/null 2>&1; then t_fail "$path"; fi
done
t_eq "what others may do with data files and their directories" \
  "$(find "$CACHE/data" -perm /077 -printf '%m %P\n')" ""

t_claim "a cache directory that others may write to is refused"
mkdir -m 777 "$T/open"
if "$FOREBAY" mount "$BLOBD_URL/safe" "$STORE" -o "cache=$T/open" \
  2>"$T/err"; then t_fail "mounted"; fi
grep -q 'others may write' "$T/err" || t_fail "$(cat "$T/err")"

t_claim "secrets are in no core dump, and not for other processes of a user"
grep -q '^VmFlags:.* dd' "/proc/$WORKER/smaps" ||
  t_fail "no mapping is left out of core dumps"
for pid in "$WORKER" "$KEEPER"; do
  if nobody cat "/proc/$pid/environ" >/dev/null 2>&1; then
    t_fail "the environment of $pid"
  fi
done

t_claim "a secret is in no log, message or process list"
blobd_fault 403:AuthenticationFailed op=any count=5 >/dev/null
AZURE_STORAGE_KEY=c2VjcmV0LXNlY3JldA== "$FOREBAY" mount "$BLOBD_URL/safe" \
  "$STORE" -o "cache=$T/cache2,log=debug" -f >"$T/log" 2>&1 || true
grep -q 'refuses' "$T/log" || t_fail "$(cat "$T/log")"
if grep -q -e c2VjcmV0 -e 'SharedKey ' -e Eby8vdM "$T/log"; then
  t_fail "a secret in the log"
fi
if tr '\0' ' ' <"/proc/$WORKER/cmdline" | grep -q Eby8; then
  t_fail "a secret on a command line"
fi
blobd_fault_clear >/dev/null
t_umount

t_claim "doctor says what a store offers, and what a mount would meet"
doctor store ok "$BLOBD_URL/safe"
doctor clock ok "$BLOBD_URL/safe"
doctor id ok "$BLOBD_URL/safe"
doctor store bad "$BLOBD_URL/nowhere"
AZURE_STORAGE_KEY=c2VjcmV0LXNlY3JldA== doctor store bad "$BLOBD_URL/safe"
doctor fuse ok
doctor kernel "$(jq -r '.[] | select(.check == "kernel") | .state' "$T/json")"
if "$FOREBAY" doctor "$BLOBD_URL/nowhere" >/dev/null; then
  t_fail "exit status of doctor"
fi
t_claim "it ends at once, whatever the last answer was"
begin=$(date +%s%3N)
for _ in 1 2 3 4 5 6 7 8; do "$FOREBAY" doctor "$BLOBD_URL/nowhere" >"$T/out" || true; done
t_took $(($(date +%s%3N) - begin)) 20000 "doctor, eight times"
t_eq "what it wrote" "$(blobd_log | grep -c nowhere || true)" 0
blobd_down >/dev/null
doctor store bad "$BLOBD_URL/safe"
blobd_stop
