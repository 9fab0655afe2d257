#!/bin/bash
# Small files in nested directories: listed, stat'ed and read right; after a
# remount they are read again with no data request; making sure that they are
# current costs list pages, not one request a file.
#   FULL=1: 20,000 files instead of 2,000
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

CONTENT=$BUILD/tests/mount/content
PER=10 # entries in a directory, three levels
COUNT=2000 SIZE=3000
if [ -n "${FULL:-}" ]; then
  PER=20 COUNT=20000
fi

# data_requests: those that one file costs.
data_requests() {
  blobd_counts | jq '.requests | .get + .head + .blocks'
}
# revalidated ROUNDS: by listing, and nothing was fetched.  A name that is
# wanted while its directory of many pages is being listed is asked for alone:
# a few where this machine is slow.
revalidated() {
  t_eq "fetched" "$(blobd_count get)" 0
  heads=$(blobd_count head)
  [ "$heads" -le $((total * $1 / 50)) ] || t_fail "$heads names asked for alone"
}

read_all() { "$CONTENT" tree "$MNT" "" 8 $SIZE; }

t_begin
blobd_start
blobd_container small >/dev/null
blobd_seed container=small prefix=tree/ "count=$COUNT" "size=$SIZE" depth=2 \
  "per=$PER" >/dev/null
# More than one page.
blobd_seed container=small prefix=wide/ "count=$((COUNT / 4))" "size=$SIZE" \
  depth=0 >/dev/null
blobd_ctl POST pages max=100 >/dev/null
total=$((COUNT + COUNT / 4))

# The names and sizes that must be there.
python3 - "$COUNT" "$PER" "$SIZE" >"$T/wanted" <<'PY'
import sys
count, per, size = map(int, sys.argv[1:])
rows = []
for i in range(count):
    leaf = i // per
    rows.append(f"tree/d{leaf // per % per:03d}/d{leaf % per:03d}/f{i:07d} {size}")
rows += [f"wide/f{i:07d} {size}" for i in range(count // 4)]
print("\n".join(sorted(rows)))
PY

t_mount "$BLOBD_URL/small"
blobd_counts_reset >/dev/null
t_claim "listed and stat'ed right"
(cd "$MNT" && find . -type f -printf '%P %s\n') | LC_ALL=C sort >"$T/got"
cmp "$T/wanted" "$T/got" || t_fail "$(diff "$T/wanted" "$T/got" | head -n 5)"
dirs=$(find "$MNT" -type d | wc -l)
lists=$(blobd_count list)
pages=$((dirs + COUNT / 400 + 1)) # of 100 names
echo "$total files in $dirs directories: $lists list requests"
t_eq "data requests for listing and stat" "$(data_requests)" 0
[ "$lists" -le $((pages + 5)) ] || t_fail "$lists list requests, $pages pages"

t_claim "read right, one request a file"
blobd_counts_reset >/dev/null
read_all
t_eq "data requests" "$(data_requests)" "$total"
t_umount

t_claim "after a remount: read again, with no data request"
t_mount "$BLOBD_URL/small"
blobd_counts_reset >/dev/null
read_all
t_eq "data requests of the second pass" "$(data_requests)" 0
echo "list requests: $(blobd_count list)"
t_umount

t_claim "with their time run out: list pages, not one request a file"
t_mount "$BLOBD_URL/small" freshness=3
probe=$(find "$MNT/wide" -type f | head -n 1)
# asked NR: its directories were listed again, NR of them.
asked() {
  stat -c %s "$probe" >/dev/null
  [ "$(blobd_count list)" -ge "$1" ]
}
blobd_counts_reset >/dev/null
t_wait_for 30 asked 2
# tree/ was listed before wide/.
blobd_counts_reset >/dev/null
begin=$(date +%s)
find "$MNT/tree" "$MNT/wide" -type f -newermt @0 >"$T/names"
xargs -n 500 cat <"$T/names" >/dev/null
rounds=$((1 + ($(date +%s) - begin) / 3))
t_eq "files" "$(wc -l <"$T/names")" "$total"
revalidated $rounds
lists=$(blobd_count list)
echo "$total files revalidated with $lists list requests in $rounds round(s)"
[ "$lists" -ge $((dirs / 2)) ] || t_fail "nothing was revalidated"
[ "$lists" -le $(((pages + 5) * rounds)) ] ||
  t_fail "$lists list requests, $pages pages, $rounds rounds"

t_claim "by name, without listing, too"
# Listed last; when its time is over that of all others is.
probe=$(grep -F "$MNT/tree/" "$T/names" | tail -n 1)
blobd_counts_reset >/dev/null
t_wait_for 30 asked 4
blobd_counts_reset >/dev/null
begin=$(date +%s)
head -n 1000 "$T/names" | xargs stat -c %s >/dev/null
rounds=$((1 + ($(date +%s) - begin) / 3))
revalidated $rounds
lists=$(blobd_count list)
echo "1000 files stat'ed with $lists list requests"
[ "$lists" -gt 0 ] || t_fail "nothing was revalidated"
[ "$lists" -le $(((pages + 5) * rounds)) ] ||
  t_fail "$lists list requests, $pages pages, $rounds rounds"
t_umount
