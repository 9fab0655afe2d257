#!/bin/sh
# New small files reach a store that is 20 ms away at 1,000 a second and more:
# order is kept between epochs, not between files.
#   FULL=1: 20,000 files, and 1,000 a second; else only as many at once as
#   that takes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

COUNT=4000 RATE=0
if [ -n "${FULL:-}" ]; then
  COUNT=20000 RATE=1000
fi

t_begin
blobd_start --latency-ms 20
blobd_container rate >/dev/null
t_mount "$BLOBD_URL/rate"
ls "$MNT" >/dev/null
blobd_counts_reset >/dev/null

t_claim "$COUNT new files of 4 KiB, half by temporary name, 20 ms away"
python3 - "$MNT" "$COUNT" "$FOREBAY" <<'PY' >"$T/rate"
import os, subprocess, sys, threading, time

top, count, forebay = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = os.urandom(4096)


def make(part):
    os.mkdir(f"{top}/d{part}")
    for i in range(part, count, 4):
        name = f"{top}/d{part}/f{i:05d}"
        # Every other thread's files: by temporary name and rename.
        first = f"{name}.tmp" if part % 2 else name
        fd = os.open(first, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, i.to_bytes(8, "little") + data[8:])
        os.close(fd)
        if first != name:
            os.rename(first, name)


begin = time.monotonic()
makers = [threading.Thread(target=make, args=(i,)) for i in range(4)]
for t in makers:
    t.start()
for t in makers:
    t.join()
made = time.monotonic() - begin
subprocess.run([forebay, "flush", top], check=True,
               stdout=subprocess.DEVNULL)
done = time.monotonic() - begin
print(f"made at {count / made:.0f} a second, in the store at "
      f"{count / done:.0f} a second", file=sys.stderr)
print(int(count / done))
PY
rate=$(cat "$T/rate")
t_eq "uploads" "$(blobd_count put)" $((COUNT + 4))
# A flush also tells the directories' own times, once.
[ "$(blobd_count setmeta)" -le 4 ] || t_fail "$(blobd_counts)"
others=$(blobd_counts | jq '.requests | add - .put - .list - .setmeta')
t_eq "requests but uploads, lists and times" "$others" 0
most=$(blobd_counts | jq .under_way_max)
echo "under way at once: $most"
[ "$most" -ge 20 ] || t_fail "1,000 a second takes 20 at once"
t_eq groups "$(t_status groups)" 0
[ "$rate" -ge $RATE ] || t_fail "$rate new files a second, wanted $RATE"
t_umount
