#!/bin/bash
# What users expect without asking, on a store that is slow, stalled or asked
# too often.  (Of processes, mounts and their surroundings: surroundings.sh.)
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

rest() { "$TOP/tests/lib/azure_rest.py" "$BLOBD_URL/users" "$@"; }
ms() { date +%s%3N; }
is_held() { [ "$(blobd_held)" -ge "${1:-1}" ]; }

# ends_at SIGNAL OP COMMAND...: it waits for the store (OP is held there), and
# ends within a second of the signal.
ends_at() {
  local signal=$1 op=$2 pid begin took
  shift 2
  blobd_hook "op=$op"
  # What a script starts in the background ignores SIGINT.
  env --default-signal=INT "$@" >/dev/null 2>&1 &
  pid=$!
  t_wait_for 10 is_held
  sleep 0.2
  kill -0 $pid 2>/dev/null || t_fail "$*: did not wait for the store"
  begin=$(ms)
  kill "-$signal" $pid
  while kill -0 $pid 2>/dev/null && [ $(($(ms) - begin)) -lt 15000 ]; do
    sleep 0.02
  done
  took=$(($(ms) - begin))
  blobd_release
  wait $pid 2>/dev/null || true
  echo "  SIG$signal, $op held: $1 ended after $took ms"
  t_took $took 1000 "$* after SIG$signal"
}

blobd_start
blobd_seed container=users prefix=small/ count=20 size=5000
blobd_seed container=users prefix=dirs/ count=10 size=10 depth=2 per=3
for i in 1 2 3 4 5 6 7 8; do
  blobd_seed_large container=users name=large$i size=$((40 * MiB))
  blobd_seed container=users prefix=list"$i"/sub/ count=3 size=10
done
printf target | rest put link --meta is_symlink=true
t_mount "$BLOBD_URL/users" store_timeout=60
ls "$MNT" >/dev/null

t_claim "a process that waits for the store ends at Ctrl-C and at kill"
ls "$MNT/small" >/dev/null
ends_at INT get cat "$MNT/large1"
ends_at KILL get cat "$MNT/large2"
ends_at TERM get cat "$MNT/small/f0000001"
ends_at INT get readlink "$MNT/link"
ends_at INT list ls "$MNT/list1"
ends_at KILL list stat "$MNT/list2/sub/f0000000"
ends_at INT list mv "$MNT/list3" "$MNT/moved3"
ends_at KILL get python3 -c "
import mmap
f = open('$MNT/large3', 'rb')
print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[30000000])"
t_claim "... also one that catches the signal, in a read that read-ahead does"
ends_at INT get python3 -c "open('$MNT/large5', 'rb', 0).read(1000000)"
ends_at INT get dd if="$MNT/large6" of=/dev/null bs=1M
ends_at TERM get bash -c "trap 'exit 1' TERM; read -r -N 9 x <'$MNT/large7'"
ends_at INT list python3 -c "import os; os.stat('$MNT/list4/sub/f0000000')"
t_eq "after all that" "$(wc -c < <(cat "$MNT/small/f0000001"))" 5000
t_eq "and" "$(head -c 1000000 "$MNT/large1" | wc -c)" 1000000
[ -d "$MNT/list3/sub" ] || t_fail "list3 is gone"

t_claim "a signal that asks nobody to end does not end a call with EINTR"
# unmoved SIGNAL OP COMMAND...: it gets through in spite of it.
unmoved() {
  local signal=$1 op=$2 pid
  shift 2
  blobd_hook "op=$op"
  "$@" >"$T/out" 2>&1 &
  pid=$!
  t_wait_for 10 is_held
  kill "-$signal" $pid
  sleep 0.5 # longer than it takes to be noticed
  blobd_release
  kill -CONT $pid 2>/dev/null || true # of those that were stopped
  wait $pid || t_fail "SIG$signal: $* ended with $?: $(cat "$T/out")"
}
# Python itself goes on after EINTR.
cat >"$T/call.py" <<'PY'
import ctypes, os, signal, sys
for s in signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1:
    signal.signal(s, lambda *_: None)
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.open(sys.argv[1].encode(), os.O_RDONLY)
if fd < 0 or libc.read(fd, ctypes.create_string_buffer(99), 99) < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
PY
unmoved ALRM list python3 "$T/call.py" "$MNT/list5/sub/f0000000"
unmoved CHLD get python3 "$T/call.py" "$MNT/small/f0000003"
unmoved USR1 get python3 "$T/call.py" "$MNT/large8"
unmoved STOP list ls "$MNT/list6"
unmoved TSTP get cat "$MNT/small/f0000004"

t_claim "a cold or partly local file shows no holes"
for f in large4 large1; do
  python3 - "$MNT/$f" <<'PY' || t_fail "$f shows holes"
import os, sys
st = os.stat(sys.argv[1])
fd = os.open(sys.argv[1], os.O_RDONLY)
assert st.st_blocks * 512 >= st.st_size, (st.st_blocks, st.st_size)
assert os.lseek(fd, 0, os.SEEK_HOLE) == st.st_size
assert os.lseek(fd, 12345678, os.SEEK_HOLE) == st.st_size
assert os.lseek(fd, 12345678, os.SEEK_DATA) == 12345678
PY
done
rest get large4 >"$T/large4"
cp "$MNT/large4" "$T/copied"
cmp "$T/large4" "$T/copied" || t_fail "cp of a cold file"
cmp -n 1000000 "$MNT/large2" <(rest get large2 2>/dev/null) || t_fail "large2"
tar -S -cf - -C "$MNT" large2 | tar -xO -f - | md5sum >"$T/tarred"
t_eq "tar of a partly local file" "$(cat "$T/tarred")" \
  "$(rest get large2 | md5sum)"

t_claim "reading changes nothing in the store: atime never goes there"
"$FOREBAY" flush "$MNT" >/dev/null
before=$(blobd_log | wc -l)
cat "$MNT"/small/* >/dev/null
touch -a -d @5 "$MNT/small/f0000002"
find "$MNT" >/dev/null
sleep 0.6
"$FOREBAY" flush "$MNT" >/dev/null
t_eq "mutations" "$(blobd_log | wc -l)" "$before"

t_claim "statfs tells the cache file system's truth"
t_eq "blocks and their size" "$(stat -f -c '%b %S %c' "$MNT")" \
  "$(stat -f -c '%b %S %c' "$CACHE")"
a=$(stat -f -c %a "$MNT") b=$(stat -f -c %a "$CACHE")
[ $((a > b ? a - b : b - a)) -le 100000 ] || t_fail "free: $a, $b"

t_claim "calls of later issues are refused, never ENOSYS"
python3 - "$MNT/small" <<'PY' || t_fail "an errno"
import errno, os, stat, sys
os.chdir(sys.argv[1])
f = "f0000001"
for name, call in {
    "link": lambda: os.link(f, "hard"),
    "mkfifo": lambda: os.mkfifo("fifo"),
    "mknod socket": lambda: os.mknod("sock", stat.S_IFSOCK | 0o600),
    "mknod device": lambda: os.mknod("dev", stat.S_IFCHR | 0o600, 0x103),
    "setxattr": lambda: os.setxattr(f, "user.x", b"1"),
    "getxattr": lambda: os.getxattr(f, "user.x"),
    "listxattr": lambda: os.listxattr(f),
    "removexattr": lambda: os.removexattr(f, "user.x"),
}.items():
    for again in (1, 2):  # ENOSYS is remembered by the kernel
        try:
            call()
            sys.exit(f"{name}: no error")
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                sys.exit(f"{name}: {e}")
PY

t_claim "the control socket is found from any path, bind mounts too"
mkdir "$T/bind"
mount --bind "$MNT/dirs" "$T/bind"
"$FOREBAY" status "$T/bind" --json | jq -e .state >/dev/null ||
  t_fail "status of a bind mount"
"$FOREBAY" flush "$T/bind" >/dev/null || t_fail "flush of a bind mount"
sub=$(find "$T/bind" -type f | head -n 1)
"$FOREBAY" prefetch "$sub" >/dev/null || t_fail "prefetch in a bind mount"
(cd "$T/bind" && "$FOREBAY" prefetch . >/dev/null) || t_fail "prefetch of ."
[ -S "/run/forebay/$(mountpoint -d "$MNT").sock" ] || t_fail "no socket"
umount "$T/bind"

# owing: dirty data, and a store that takes requests and does not answer.
owing() {
  blobd_hook op=any
  for i in 1 2 3; do
    head -c 3000000 /dev/urandom >"$MNT/owed.$1.$i"
  done
  md5sum "$MNT/owed.$1."* | sed 's|/.*/||' >"$T/owed.$1"
  t_wait_for 10 is_held
  keeper=$(t_status keeper_pid) worker=$(t_status worker_pid)
}
# ended WHAT BEGIN
ended() {
  t_wait_for 10 t_gone "$keeper"
  t_wait_for 1 t_gone "$worker"
  echo "  $1: gone after $(($(ms) - $2)) ms"
  t_took $(($(ms) - $2)) 5000 "$1"
  if mountpoint -q "$MNT"; then t_fail "$1: still mounted"; fi
  blobd_release
}
arrive() {
  t_mount "$BLOBD_URL/users" store_timeout=60
  md5sum "$MNT/owed.$1."* | sed 's|/.*/||' | diff - "$T/owed.$1" ||
    t_fail "what was owed is not here"
  "$FOREBAY" flush "$MNT" >/dev/null || t_fail flush
  while read -r sum name; do
    t_eq "$name" "$(rest get "$name" | md5sum)" "$sum  -"
  done <"$T/owed.$1"
  t_eq "conflicts" "$(t_status conflicts)" 0
}

t_claim "a plain umount does not wait for the store, and loses nothing"
owing umount
begin=$(ms)
umount "$MNT" || t_fail "umount"
ended umount "$begin"
arrive umount

t_claim "nor does SIGTERM"
owing term
begin=$(ms)
kill -TERM "$keeper"
ended SIGTERM "$begin"
arrive term

t_claim "nor does forebay umount, which says what is owed"
owing ours
begin=$(ms)
"$FOREBAY" umount "$MNT" >"$T/said" 2>&1 || t_fail "umount"
ended "forebay umount" "$begin"
grep -q 'owed' "$T/said" || t_fail "said: $(cat "$T/said")"
arrive ours
t_umount
