#!/bin/bash
# Keeper and worker under load for half an hour (issue 5, must-hold 1) leak
# nothing: memory, descriptors, threads and the index after each round, from
# which the first third is left out as warm-up.  ROUNDS of SECONDS_EACH.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin
ROUNDS=${ROUNDS:-90}
SECONDS_EACH=${SECONDS_EACH:-20}
# The allocator's own ups and downs; what leaks once a call is far above it.
SLACK_KIB=8192

blobd_start --latency-ms 2
blobd_container leaks
t_mount "$BLOBD_URL/leaks" freshness=5
keeper=$(t_status keeper_pid)
worker=$(t_status worker_pid)

rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
fds() { find "/proc/$1/fd" -type l | wc -l; }
index() { du -k "$CACHE"/index.db | cut -f1; }

echo "round calls worker-KiB keeper-KiB worker-fds keeper-fds threads index-KiB"
for ((i = 1; i <= ROUNDS; i++)); do
  mkdir "$MNT/r$i"
  python3 "$TOP/tests/crash/load.py" --big "$MNT/r$i/big" $((8 * MiB))
  python3 "$TOP/tests/crash/load.py" "$MNT/r$i" "$SECONDS_EACH" "$i" \
    "$FOREBAY" >"$T/load" || t_fail "$(cat "$T/load")"
  rm -rf "$MNT/r$i"
  "$FOREBAY" flush "$MNT" || t_fail "flush"
  t_eq "the worker" "$(t_status worker_pid)" "$worker"
  echo "$i $(jq -s 'map(.calls) | add' "$T/load") $(rss "$worker")" \
    "$(rss "$keeper") $(fds "$worker") $(fds "$keeper")" \
    "$(find "/proc/$worker/task" -maxdepth 1 | wc -l) $(index)" |
    tee -a "$T/rounds"
done

# Least squares over what is left: what each column grows in a round.
python3 - "$T/rounds" "$SLACK_KIB" <<'P' || t_fail "it grows"
import sys
rows = [list(map(int, line.split())) for line in open(sys.argv[1])]
rows = rows[len(rows) // 3:]
slack = {2: int(sys.argv[2]), 3: 1024, 4: 8, 5: 0, 6: 8, 7: 4096}
names = "round calls worker-KiB keeper-KiB worker-fds keeper-fds threads index-KiB".split()
n, bad = len(rows), False
mid = sum(r[0] for r in rows) / n
for c, limit in slack.items():
    mean = sum(r[c] for r in rows) / n
    slope = (sum((r[0] - mid) * (r[c] - mean) for r in rows) /
             max(1, sum((r[0] - mid) ** 2 for r in rows)))
    grown = slope * (rows[-1][0] - rows[0][0])
    print("%s: %.0f, %+.2f a round, %+.0f in all" % (names[c], mean, slope, grown))
    bad |= grown > limit
sys.exit(bad)
P
