#!/bin/bash
# WRITEBACK.md section 5, its functions one by one: what enters which epoch,
# what is kept, what is joined, and what is sent when.  The line is held at a
# gate, a file whose request the store does not answer, while changes are made.
# sanitize: address
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

is_held() { [ "$(blobd_held)" -ge 1 ]; }
flush() { "$FOREBAY" flush "$MNT" >"$T/flush.log" 2>&1 || t_fail "flush"; }
# fsynced, so that what follows is in a later epoch
write_synced() { dd of="$1" conv=fsync status=none; }
gates=0
# The line stops here.
gate() {
  gates=$((gates + 1))
  blobd_hook op=put "name=gate.$gates" count=1
  write_synced "$MNT/gate.$gates" <<<gate
  t_wait_for 15 is_held
}
# Goes on; what was sent since the gate, one "OP NAME" a line: $T/sent.
go() {
  from=$(($(blobd_log | tail -n 1 | jq .seq) + 1))
  blobd_release >/dev/null
  flush
  t_eq "owed" "$(t_status pending)" 0
  blobd_log "$from" | jq -r 'select(.op != "putblock") | "\(.op) \(.name)"' |
    sed '/ gate\./d' >"$T/sent"
}
# row NAME KEY: of the newest row of that name in the line.
row() {
  "$FOREBAY" status "$MNT" --pending --json | jq -r --arg name "$1" \
    --arg key "$2" '[.pending_rows[] | select(.name == $name)] | max_by(.seq)[$key]'
}
epoch() { row "$1" epoch; }
# shares NAME NAME COMMAND: what makes both, within 200 ms, on a busy machine at
# the latest try.
shares() {
  for _ in $(seq 20); do
    eval "$3"
    [ "$(epoch "$1")" != "$(epoch "$2")" ] || return 0
  done
  t_fail "$1 is in epoch $(epoch "$1"), $2 in $(epoch "$2")"
}
# later NAME NAME...: each in a later epoch than the one before.
later() {
  while [ $# -gt 1 ]; do
    [ "$(epoch "$1")" -lt "$(epoch "$2")" ] ||
      t_fail "$2 is in epoch $(epoch "$2"), $1 in $(epoch "$1")"
    shift
  done
}
# sent_in_order TEXT...: these lines of $T/sent, in this order.
sent_in_order() {
  printf '%s\n' "$@" >"$T/want"
  grep -Fx -f "$T/want" "$T/sent" >"$T/got" || true
  cmp -s "$T/want" "$T/got" || t_fail "sent: $(cat "$T/sent")
wanted: $(cat "$T/want")"
}
not_sent() {
  if grep -q " $1\$" "$T/sent"; then
    t_fail "$1 was sent: $(cat "$T/sent")"
  fi
}

blobd_start
blobd_container order >/dev/null
t_mount "$BLOBD_URL/order"
cd "$MNT"
for f in shown.1 shown.2 latest moved; do echo "$f" >$f; done
flush

t_claim "enter: new names share an epoch; a replacement has one of its own"
gate
shares new.1 new.2 'rm -f new.1 new.2 && echo a | tee new.1 >new.2'
echo b >shown.1
echo b >shown.2
echo b >new.3
later new.1 shown.1 shown.2 new.3

t_claim "enter: a rename, a symlink and a deletion begin epochs"
mv moved moved.2
ln -s x link
rm latest
later new.3 moved.2 link latest

t_claim "enter: an fsync ends an epoch, and so does a large file"
echo a >new.4
write_synced new.5 <<<a
echo a >new.6
head -c 8388609 /dev/zero >large
echo a >new.7
later new.5 new.6
later large new.7

t_claim "enter: what may pass each other was made within 200 ms"
for i in $(seq 16); do
  echo a >"stream.$i"
  sleep 0.05
done
later stream.1 stream.8 stream.16

t_claim "enter: a temporary name that is renamed is a new name, sent once"
write_synced new.8 <<<a
shares new.9 new.10 'rm -f new.9 new.10 && echo a | tee tmp.1 >new.9 &&
  mv tmp.1 new.10'
go
not_sent tmp.1
sent_in_order "put new.3" "copy moved.2" "put link" "delete latest" "put new.5" \
  "put new.6" "put stream.1" "put stream.16"

t_claim "enter: a name that is gone again costs nothing"
gate
echo a >gone
rm gone
go
not_sent gone
t_eq groups "$(t_status groups)" 0

t_claim "keep: an older state that is owed is sent in its place"
echo 1 >kept
flush
gate
echo 22 >kept
write_synced named <<<"kept has 3 bytes"
echo 333 >>kept
go
sent_in_order "put kept" "put named" "put kept"
t_eq groups "$(t_status groups)" 0

t_claim "join: no state is seen that names what will never be sent"
echo 0 >latest
flush
gate
write_synced ckpt.1 <<<1
write_synced latest <<<1
write_synced ckpt.2 <<<2
write_synced first <<<ckpt.2
write_synced latest <<<2
write_synced second <<<ckpt.2
rm ckpt.1
t_eq groups "$(t_status groups)" 1
t_eq "a group" "$(row first group)" true
# What is not of that pair keeps its order, and each other's requests wait.
blobd_hook op=put name=ckpt.2 count=1
blobd_release count=1 keep=1 >/dev/null
t_wait_for 15 is_held
for _ in $(seq 10); do
  t_status state >/dev/null
done
if blobd_log | jq -r .name | grep -qx first; then
  t_fail "a name of a later epoch passes those before it in a group"
fi
go
not_sent ckpt.1
sent_in_order "put ckpt.2" "put first" "put latest" "put second"

t_claim "join: a temporary file between others does not form a group"
gate
write_synced lock <<<1
write_synced latest <<<3
rm lock
t_eq groups "$(t_status groups)" 1
go

t_claim "send: the newest name of an epoch goes last"
gate
# Within 200 ms: one process.
python3 -c 'for n in ("a", "b", "c", "_SUCCESS"): open(n, "w").write(n)'
later_than_c=$(($(epoch _SUCCESS) - $(epoch c)))
blobd_hook op=put name=a count=1
blobd_release count=1 keep=1 >/dev/null
t_wait_for 15 is_held
go
[ $later_than_c -gt 0 ] || sent_in_order "put a" "put _SUCCESS"

t_claim "send: a large file is staged ahead of its turn"
blobd_counts_reset >/dev/null
gate
head -c 9000000 /dev/urandom >ahead
staged() { [ "$(blobd_count putblock)" -ge 2 ]; }
t_wait_for 15 staged
go
sent_in_order "commit ahead"

cd "$TOP"
t_umount
