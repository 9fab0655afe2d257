#!/bin/bash
# Writers that the daemon cannot see (must-hold 9): a shared mapping outlives
# its descriptor, is stored to much later, with and without msync, and the file
# is evicted, uploaded, remounted or the daemon killed meanwhile: no store is
# lost.
. "$(dirname "$0")/../lib/common.sh"
t_begin

cat >"$T/holder.py" <<'P'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 0)
os.close(fd)
print("ready", flush=True)
for line in sys.stdin:
    word = line.split()
    if word[0] == "put":
        m[int(word[1]):int(word[1]) + len(word[2])] = word[2].encode()
    elif word[0] == "sync":
        m.flush()
    print("done", flush=True)
P
# hold FILE: a process that has it mapped, and no descriptor of it.
hold() {
  rm -f "$T/in" "$T/out"
  mkfifo "$T/in" "$T/out"
  python3 "$T/holder.py" "$1" <"$T/in" >"$T/out" &
  HOLDER=$!
  exec 8>"$T/in" 9<"$T/out"
  read -r _ <&9
}
tell() {
  echo "$*" >&8
  read -r _ <&9
}
let_go() {
  exec 8>&- 9<&-
  wait "$HOLDER"
}
same() { cmp -s "$MNT/$1" "$STORE/$1"; }
has() { [ "$(dd if="$1" bs=1 skip="$2" count=${#3} status=none)" = "$3" ]; }
make() {
  head -c 65536 /dev/zero | tr '\0' "$2" >"$MNT/$1"
  "$FOREBAY" flush "$MNT"
}
t_mount "dir:$STORE" writeback_open=1

for sync in sync nosync; do
  t_claim "$sync: stored to after the close and an upload: evict drops nothing"
  make f a
  hold "$MNT/f"
  sleep 1.5 # "much later": past the looks at a file just closed
  tell put 5000 LATER1
  [ $sync = nosync ] || tell sync
  "$FOREBAY" evict "$MNT/f" >/dev/null 2>&1 || true
  has "$MNT/f" 5000 LATER1 || t_fail "evicted under the mapping"
  tell put 9000 LATER2
  let_go
  t_wait_for 20 same f
  has "$STORE/f" 5000 LATER1 || t_fail "LATER1 is not in the store"
  has "$STORE/f" 9000 LATER2 || t_fail "LATER2 is not in the store"
  "$FOREBAY" evict "$MNT/f"
  has "$MNT/f" 9000 LATER2 || t_fail "evicted, and lost"

  t_claim "$sync: stored to after an unmount"
  make g b
  hold "$MNT/g"
  tell put 100 BEFORE
  umount -l "$MNT" # in use by the mapping
  t_wait_for 10 sh -c "! mountpoint -q '$MNT'"
  tell put 200 AFTER1
  [ $sync = nosync ] || tell sync
  let_go
  t_wait_for 20 "$FOREBAY" mount "dir:$STORE" "$MNT" -o \
    "cache=$CACHE,writeback_open=1"
  has "$MNT/g" 200 AFTER1 || t_fail "not there after the mount"
  t_wait_for 20 same g
  has "$STORE/g" 200 AFTER1 || t_fail "AFTER1 is not in the store"

  t_claim "$sync: stored to after the daemon was killed"
  make h c
  hold "$MNT/h"
  tell put 300 ALIVE1
  pids=("$(t_status keeper_pid)" "$(t_status worker_pid)")
  kill -9 "${pids[@]}"
  for pid in "${pids[@]}"; do t_wait_for 10 t_gone "$pid"; done
  umount -l "$MNT" 2>/dev/null || true
  tell put 400 KILLED
  [ $sync = nosync ] || tell sync
  let_go
  t_mount "dir:$STORE" writeback_open=1
  has "$MNT/h" 400 KILLED || t_fail "not there after the mount"
  t_wait_for 20 same h
  has "$STORE/h" 400 KILLED || t_fail "KILLED is not in the store"
done
t_umount
