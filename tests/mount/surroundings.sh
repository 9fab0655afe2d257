#!/bin/bash
# What users expect of a mount's surroundings: its log, a dead mount in its
# place, descriptors, odd cache file systems, proxies, identities.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

pids_gone() { t_gone "$keeper" && t_gone "$worker"; }

# ---- a store of its own ----

echo data >"$STORE/file"

t_claim "-f logs to stderr and ends at SIGINT"
env --default-signal=INT "$FOREBAY" mount "dir:$STORE" "$MNT" -f \
  -o "cache=$CACHE,log=debug" 2>"$T/stderr" &
front=$!
t_wait_for 10 mountpoint -q "$MNT"
t_wait_for 10 test -e "$MNT/file"
kill -INT $front
wait $front || t_fail "status $?"
[ -s "$T/stderr" ] || t_fail "nothing on stderr"
if mountpoint -q "$MNT"; then t_fail "still mounted"; fi

t_claim "in the background it logs to journald or syslog, not to the terminal"
if [ -e /dev/log ]; then
  echo "  /dev/log is somebody's: not asked"
else
  python3 - "$T/syslog" <<'PY' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
with open(sys.argv[1], "wb", buffering=0) as f:
    try:
        s.settimeout(20)
        while True:
            d = s.recv(8192)
            f.write(d + b"\n")
            if b"end of test" in d:
                break
    finally:
        os.unlink("/dev/log")
PY
  listener=$!
  t_wait_for 10 test -S /dev/log
  "$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE,log=debug" \
    >"$T/out" 2>&1
  cat "$MNT/file" >/dev/null
  t_umount
  logger -u /dev/log "end of test" 2>/dev/null || python3 -c '
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(
    b"end of test", "/dev/log")'
  wait $listener
  grep -q forebay "$T/syslog" || t_fail "nothing in syslog"
  [ ! -s "$T/out" ] || t_fail "on the terminal: $(cat "$T/out")"
  echo "  $(grep -c forebay "$T/syslog") lines"
fi

t_claim "a dead mount at the mount point is detached first"
t_mount "dir:$STORE"
echo kept >"$MNT/kept"
keeper=$(t_status keeper_pid) worker=$(t_status worker_pid)
kill -STOP "$keeper" # or it would start another worker, or the worker unmount
kill -KILL "$worker"
kill -KILL "$keeper"
t_wait_for 5 pids_gone
if ls "$MNT" >/dev/null 2>"$T/error"; then t_fail "the mount is not dead"; fi
grep -q 'not connected' "$T/error" || t_fail "$(cat "$T/error")"
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$CACHE" || t_fail "mount"
t_eq "mounts" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
t_eq "file" "$(cat "$MNT/file")" data
t_eq "kept" "$(cat "$MNT/kept")" kept
"$FOREBAY" flush "$MNT" >/dev/null
t_eq "in the store" "$(cat "$STORE/kept")" kept

t_claim "RLIMIT_NOFILE is raised to its hard limit"
for p in $(t_status keeper_pid) $(t_status worker_pid); do
  awk '/^Max open files/ { exit $4 != $5 }' "/proc/$p/limits" ||
    t_fail "$(grep 'open files' "/proc/$p/limits")"
done
t_umount

t_claim "descriptors stay below it, however many files are open"
mkdir "$STORE/many"
for i in $(seq 400); do echo "$i" >"$STORE/many/$i"; done
for how in auto off; do
  rm -rf "$CACHE"
  mkdir "$CACHE"
  prlimit --nofile=160:160 "$FOREBAY" mount "dir:$STORE" "$MNT" \
    -o "cache=$CACHE,passthrough=$how" || t_fail "mount with 160 descriptors"
  worker=$(t_status worker_pid)
  python3 - "$MNT/many" "$worker" <<'PY' || t_fail "passthrough=$how"
import collections, errno, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
os.chdir(sys.argv[1])
got, fds, most = collections.Counter(), [], 0
for i in range(1, 401):
    try:
        fd = os.open(str(i), os.O_RDWR)
        fds.append(fd)
        got["ok" if os.pread(fd, 99, 0) == b"%d\n" % i else "wrong"] += 1
    except OSError as e:
        got[errno.errorcode[e.errno]] += 1
    most = max(most, len(os.listdir(f"/proc/{sys.argv[2]}/fd")))
print(f"  400 opens: {dict(got)}; the daemon had {most} descriptors")
for fd in fds:
    os.close(fd)
if most > 160 or set(got) - {"ok", "ENFILE", "EMFILE"} or got["ok"] < 20:
    sys.exit(1)
# And afterwards it is as before, as soon as the kernel has told of the closes
# (RELEASE waits for nobody).
def read(i, until):
    while True:
        try:
            return open(str(i)).read()
        except OSError as e:
            if e.errno != errno.ENFILE or time.monotonic() > until:
                raise
until = time.monotonic() + 10
for i in range(1, 401):
    assert read(i, until) == f"{i}\n"
PY
  t_umount
done

# ---- where the cache lies ----

# odd DIR: a cache there serves right, or is refused in one line.
odd() {
  mkdir -p "$1"
  if "$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$1" 2>"$T/error"; then
    t_eq "file" "$(cat "$MNT/file")" data
    head -c 3000000 /dev/urandom >"$T/bytes"
    cp "$T/bytes" "$MNT/bytes"
    cmp "$T/bytes" "$MNT/bytes" || t_fail "other bytes"
    "$FOREBAY" flush "$MNT" >/dev/null || t_fail flush
    cmp "$T/bytes" "$STORE/bytes" || t_fail "other bytes in the store"
    served=$(t_status passthrough)
    echo "  served, passthrough $served: $(cat "$T/error")"
    t_umount
  else
    t_eq "status" $? 0
  fi
}
t_claim "a cache on tmpfs is served or refused, in one line"
mkdir "$T/tmpfs"
mount -t tmpfs none "$T/tmpfs"
odd "$T/tmpfs/cache" || true
[ "$(wc -l <"$T/error")" -le 1 ] || t_fail "$(cat "$T/error")"
umount "$T/tmpfs"
t_claim "so is one on overlayfs"
mkdir "$T/lower" "$T/upper" "$T/work" "$T/over"
if mount -t overlay none "$T/over" \
  -o "lowerdir=$T/lower,upperdir=$T/upper,workdir=$T/work" 2>/dev/null; then
  odd "$T/over/cache" && t_eq passthrough "$served" false
  [ "$(wc -l <"$T/error")" -le 1 ] || t_fail "$(cat "$T/error")"
  umount "$T/over"
else
  echo "  no overlayfs here"
fi

# ---- proxies and identities ----

# story: mount with this environment, read, write.
story() {
  rm -rf "$CACHE"
  mkdir "$CACHE"
  "$@" "$FOREBAY" mount "$URL" "$MNT" -o "cache=$CACHE" || t_fail "mount"
  t_eq "read" "$(wc -c < <(cat "$MNT/d/f0000001"))" 1000
  echo written >"$MNT/written"
  "$FOREBAY" flush "$MNT" >/dev/null || t_fail flush
  t_umount
}
# proxy_start PORT: a proxy in front of that port; sets `proxy`.
proxy_start() {
  "$TOP/tests/mount/proxy.py" "$T/proxied" "$1" >"$T/proxy.out" &
  t_wait_for 10 grep -q listening "$T/proxy.out"
  proxy=http://127.0.0.1:$(sed -n 's/^listening //p' "$T/proxy.out")
}
no_creds=(env -u AZURE_STORAGE_KEY -u AZURE_STORAGE_ACCOUNT
  -u no_proxy -u NO_PROXY)

t_claim "a proxy and a CA file of the environment are honoured"
# An address for documentation: nobody answers there but through the proxy.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=blobd \
  -addext subjectAltName=IP:192.0.2.1 -keyout "$T/key.pem" \
  -out "$T/cert.pem" 2>/dev/null
blobd_start --tls-cert "$T/cert.pem" --tls-key "$T/key.pem"
curl -sS -k -f -X POST "https://127.0.0.1:$BLOBD_PORT/_/seed?$(
  )container=ids&prefix=d/&count=5&size=1000" >/dev/null
proxy_start "$BLOBD_PORT"
URL=https://192.0.2.1/$BLOBD_ACCOUNT/ids
for ca in CURL_CA_BUNDLE SSL_CERT_FILE; do
  story env -u no_proxy -u NO_PROXY -u CURL_CA_BUNDLE \
    https_proxy="$proxy" $ca="$T/cert.pem"
done
grep -q 'CONNECT 192.0.2.1:443' "$T/proxied" || t_fail "not by the proxy"
t_claim "a certificate that nobody vouches for is refused"
if env -u no_proxy -u NO_PROXY https_proxy="$proxy" "$FOREBAY" mount "$URL" \
  "$MNT" -o "cache=$CACHE.4,store_timeout=5" 2>"$T/error"; then
  t_fail "it is taken"
fi
grep -q -i 'certificate' "$T/error" || t_fail "$(cat "$T/error")"
t_eq "lines" "$(wc -l <"$T/error")" 1
blobd_stop

blobd_start --oauth first-token
blobd_seed container=ids prefix=d/ count=5 size=1000
URL=$BLOBD_URL/ids
proxy_start "$BLOBD_PORT"
# tokens: how many were asked for.
tokens() { blobd_ctl POST token | jq -r .requests; }

# For the renewal below: a token younger than 10 s is taken to be right.
early=$T/early
mkdir "$early"
"${no_creds[@]}" \
  AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:$BLOBD_PORT" \
  "$FOREBAY" mount "$URL" "$early" -o "cache=$CACHE.5" || t_fail mount
early_s=$SECONDS

t_claim "managed identity works, and never through a proxy"
: >"$T/proxied"
before=$(tokens)
story "${no_creds[@]}" http_proxy="$proxy" https_proxy="$proxy" \
  AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:$BLOBD_PORT"
[ "$(tokens)" -gt "$before" ] || t_fail "no token was asked for"
t_eq "through the proxy" "$(cat "$T/proxied")" ""

t_claim "workload identity works"
echo jwt-one >"$T/federated"
before=$(tokens)
story "${no_creds[@]}" AZURE_TENANT_ID=tenant AZURE_CLIENT_ID=client \
  AZURE_FEDERATED_TOKEN_FILE="$T/federated" \
  AZURE_AUTHORITY_HOST="http://127.0.0.1:$BLOBD_PORT/"
[ "$(tokens)" -gt "$before" ] || t_fail "no token was asked for"

t_claim "so does a client secret"
before=$(tokens)
story "${no_creds[@]}" AZURE_TENANT_ID=tenant AZURE_CLIENT_ID=client \
  AZURE_CLIENT_SECRET=s3cret+/= \
  AZURE_AUTHORITY_HOST="http://127.0.0.1:$BLOBD_PORT/"
[ "$(tokens)" -gt "$before" ] || t_fail "no token was asked for"

t_claim "a token is renewed when it is refused"
old_enough() { [ $((SECONDS - early_s)) -gt 10 ]; }
t_wait_for 12 old_enough
blobd_ctl POST token token=second-token >/dev/null
t_eq "read" "$(wc -c < <(cat "$early/d/f0000002"))" 1000
MNT=$early t_umount

t_claim "a token does not go over plain http to another host"
if "${no_creds[@]}" http_proxy="$proxy" \
  AZURE_POD_IDENTITY_AUTHORITY_HOST="http://127.0.0.1:$BLOBD_PORT" \
  "$FOREBAY" mount "http://192.0.2.1:10000/$BLOBD_ACCOUNT/ids" "$MNT" \
  -o "cache=$CACHE.3" 2>"$T/error"; then
  t_fail "it did"
fi
grep -q 'plain http' "$T/error" || t_fail "$(cat "$T/error")"
