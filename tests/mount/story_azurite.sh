#!/bin/bash
# The story of scripts/demo on Azurite: a data set that another tool uploaded;
# cold and warm; prefetch; a checkpoint, its order and its bytes in the store;
# unmount; warm again with the store gone.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/azurite.sh"

FILES=400 # Azurite slows down with more than 2,000 blobs

tree() { "$TOP/tests/mount/tree.py" "$@"; }
sum_of() { sha256sum "$1" | cut -d' ' -f1; }
# What is there: names, types, modes, sizes, targets of symlinks.
names() { (cd "$1" && find . -mindepth 1 "${@:2}" | LC_ALL=C sort); }

t_begin
azurite_start "$T/azurite" || exit
URL=$(azurite_container story)

mkdir -p "$T/data/small" "$T/data/shards" "$T/data/run"
for i in $(seq "$FILES"); do
  mkdir -p "$T/data/small/d$((i % 20))"
  head -c $((i * 37)) /dev/urandom >"$T/data/small/d$((i % 20))/f$i.bin"
done
t_random "$T/data/shards/shard-0.bin" $((40 * MiB + 77))
t_random "$T/data/shards/shard-1.bin" $((9 * MiB))
ln -s shards/shard-1.bin "$T/data/newest.bin"
echo old >"$T/data/run/model.ckpt"
echo "none model.ckpt" >"$T/data/run/latest"
chmod 640 "$T/data/small/d0/f20.bin"
tree put "$URL" "$T/data"
(cd "$T/data" && find . -type f ! -path './run/*' -exec sha256sum {} +) \
  >"$T/sums"

t_claim "the mount shows what was uploaded, and fetches no content for it"
t_mount "$URL"
format='%P %y %l %m %s\n'
diff <(names "$T/data" ! -type d -printf "$format") \
  <(names "$MNT" ! -type d -printf "$format") || t_fail "the names differ"
# But for the symlink: its target is what its blob holds.
target=$(readlink "$MNT/newest.bin")
missed=$(t_status miss_bytes)
t_eq miss_bytes "$missed" ${#target}

t_claim "a cold read is right, a warm one asks for nothing"
t_eq shard-0 "$(sum_of "$MNT/shards/shard-0.bin")" \
  "$(sum_of "$T/data/shards/shard-0.bin")"
t_eq miss_bytes "$(t_status miss_bytes)" $((missed + 40 * MiB + 77))
missed=$(t_status miss_bytes)
sum_of "$MNT/shards/shard-0.bin" >/dev/null
t_eq miss_bytes "$(t_status miss_bytes)" "$missed"

t_claim "prefetch makes everything local"
"$FOREBAY" prefetch "$MNT" >/dev/null
missed=$(t_status miss_bytes)
(cd "$MNT" && sha256sum --quiet -c "$T/sums") || t_fail "something reads wrong"
t_eq "the symlink" "$(readlink "$MNT/newest.bin")" shards/shard-1.bin
t_eq miss_bytes "$(t_status miss_bytes)" "$missed"

t_claim "a checkpoint: the store shows 'latest' when it has what it names"
t_random "$T/model" $((24 * MiB + 5))
sum=$(sum_of "$T/model")
tree watch "$URL" "$sum" >"$T/seen" &
watcher=$!
dd if="$T/model" of="$MNT/run/model.ckpt.tmp" bs=1M conv=fsync status=none
chmod 640 "$MNT/run/model.ckpt.tmp"
mv -f "$MNT/run/model.ckpt.tmp" "$MNT/run/model.ckpt"
echo "$sum  model.ckpt" >"$MNT/run/latest.tmp"
mv -f "$MNT/run/latest.tmp" "$MNT/run/latest"
mkdir "$MNT/run/step-1"
cp "$MNT/small/d1/f1.bin" "$MNT/run/step-1/part"
ln -s step-1 "$MNT/run/current"
rm "$MNT/small/d2/f2.bin"
(cd "$MNT/run" && sha256sum --quiet -c latest) || t_fail "it reads wrong here"
"$FOREBAY" flush "$MNT" >/dev/null
wait "$watcher"
read -r seen rest <"$T/seen"
t_eq "what the store showed with 'latest'" "$seen" "$sum"
case " $rest " in
*.tmp*) t_fail "the store showed a temporary name: $rest" ;;
esac
t_eq dirty_bytes "$(t_status dirty_bytes)" 0
t_eq pending "$(t_status pending)" 0
t_eq groups "$(t_status groups)" 0

t_claim "the store holds what the mount shows"
mkdir "$T/got"
tree get "$URL" "$T/got"
diff -r --no-dereference "$T/got" "$MNT" || t_fail "mount and store differ"
diff <(names "$T/got" -type f -printf "$format") \
  <(names "$MNT" -type f -printf "$format") || t_fail "the attributes differ"
t_umount

t_claim "mounted again with the store gone: warm at once"
azurite_stop
t_mount "$URL" 2>"$T/warning"
grep -v 'd2/f2.bin' "$T/sums" >"$T/sums2"
(cd "$MNT" && sha256sum --quiet -c "$T/sums2") || t_fail "something reads wrong"
(cd "$MNT/run" && sha256sum --quiet -c latest) || t_fail "the checkpoint is wrong"
t_eq "the symlink" "$(readlink "$MNT/run/current")" step-1
t_eq state "$(t_status state)" offline
t_umount
