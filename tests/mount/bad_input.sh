#!/bin/sh
# Bad input (issue 3, must hold 11): one line that says what, why and what to
# do, exit status 1 or 2, nothing left mounted or half made.
# sanitize: yes
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/blobd.sh"

t_begin
# What a mount may read from the environment is not the caller's here.
unset AZURE_STORAGE_ACCOUNT AZURE_STORAGE_KEY AZURE_STORAGE_SAS_TOKEN \
  AZURE_STORAGE_CONNECTION_STRING AZURE_CLIENT_ID AZURE_TENANT_ID \
  AZURE_CLIENT_SECRET AZURE_FEDERATED_TOKEN_FILE

# refused STATUS WORDS COMMAND...: one line on stderr with these words (an
# extended regular expression), and no mount.
refused() {
  wanted=$1 words=$2
  shift 2
  status=0
  timeout 90 "$@" >"$T/out" 2>"$T/err" || status=$?
  cat "$T/err"
  t_eq "exit status of: $*" "$status" "$wanted"
  t_eq "lines on stderr of: $*" "$(wc -l <"$T/err")" 1
  grep -Eq "$words" "$T/err" || t_fail "the line does not say: $words"
  grep -Eq '^forebay: .+' "$T/err" || t_fail "no line of forebay's"
  ! grep -q " $T/" /proc/self/mountinfo || t_fail "something is mounted"
  [ ! -s "$T/out" ] || t_fail "it said something on stdout"
}
mount_at() { # STORE MOUNTPOINT OPTIONS: prints the command
  refused "$1" "$2" "$FOREBAY" mount "$3" "$4" -o "$5"
}
# Nothing half made: the cache directory is as it was, empty, or not there.
unmade() {
  case $1 in
  "$CACHE" | "$T/tiny") [ -z "$(ls -A "$1")" ] || t_fail "$1: $(ls -A "$1")" ;;
  *) [ ! -e "$1" ] || t_fail "$1 is there" ;;
  esac
}

t_claim "wrong usage has status 2"
refused 2 "STORE and MOUNTPOINT" "$FOREBAY" mount "dir:$STORE"
refused 2 "unknown option -x" "$FOREBAY" mount -x "dir:$STORE" "$MNT"
refused 2 "unknown command 'mnt'" "$FOREBAY" mnt
refused 2 "unknown option --nope" "$FOREBAY" status --nope
refused 2 "PATH or --from" "$FOREBAY" prefetch
refused 2 "MOUNTPOINT" "$FOREBAY" umount

t_claim "unknown and senseless options are refused"
mount_at 2 "unknown option 'nope'; see" "dir:$STORE" "$MNT" "cache=$CACHE,nope"
mount_at 2 "unknown option 'nope'; see" "dir:$STORE" "$MNT" "nope=1"
mount_at 2 "'cache': needs a value" "dir:$STORE" "$MNT" cache
mount_at 2 "'ro': takes no value" "dir:$STORE" "$MNT" ro=1
mount_at 2 "cache_size=lots.*not a size" "dir:$STORE" "$MNT" cache_size=lots
mount_at 2 "freshness=soon.*seconds" "dir:$STORE" "$MNT" freshness=soon
mount_at 2 "remount.*unmount and mount" "dir:$STORE" "$MNT" remount
unmade "$CACHE"

t_claim "store names that make no sense are refused"
for store in nonsense http:// ftp://x/y https://a.blob.core.windows.net \
  https://a.blob.core.windows.net/UPPER dir: dir:relative; do
  mount_at 2 "." "$store" "$MNT" "cache=$CACHE"
done
# It may only be away, but a first mount needs it.
mount_at 1 "." "dir:$T/nowhere" "$MNT" "cache=$CACHE"
unmade "$CACHE"

t_claim "a mount point that is missing, no directory, or not empty is refused"
mount_at 1 "does not exist" "dir:$STORE" "$T/missing" "cache=$CACHE"
mount_at 2 "mount point is empty" "dir:$STORE" "" "cache=$CACHE"
touch "$T/file"
mount_at 1 "not a directory" "dir:$STORE" "$T/file" "cache=$CACHE"
mkdir "$T/full" && touch "$T/full/x"
mount_at 1 "not empty" "dir:$STORE" "$T/full" "cache=$CACHE"
unmade "$CACHE"

t_claim "directories that lie in one another are refused"
mount_at 2 "one in the other" "dir:$STORE" "$MNT" "cache=$MNT/cache"
mount_at 2 "one in the other" "dir:$STORE" "$MNT" "cache=$STORE/cache"
mkdir "$STORE/mnt"
mount_at 2 "one in the other" "dir:$STORE" "$STORE/mnt" "cache=$CACHE"
rmdir "$STORE/mnt"

t_claim "a cache directory that cannot hold a cache is refused"
touch "$T/notdir"
mount_at 1 "cache directory .*(Not a directory|choose)" "dir:$STORE" "$MNT" \
  "cache=$T/notdir"
mkdir "$T/ro" && mount -t tmpfs -o ro none "$T/ro"
status=0
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$T/ro/c" 2>"$T/err" || status=$?
cat "$T/err"
t_eq "status on a read-only file system" "$status" 1
grep -q "Read-only file system" "$T/err" || t_fail "does not say why"
t_eq "lines" "$(wc -l <"$T/err")" 1
umount "$T/ro"
mkdir "$T/tiny" && mount -t tmpfs -o size=64k,mode=0700 none "$T/tiny"
status=0
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$T/tiny" 2>"$T/err" || status=$?
cat "$T/err"
t_eq "status on a full file system" "$status" 1
grep -q "No space left" "$T/err" || t_fail "does not say why"
t_eq "lines" "$(wc -l <"$T/err")" 1
unmade "$T/tiny"
umount "$T/tiny"

t_claim "two mounts on one cache directory are refused"
t_mount "dir:$STORE"
mkdir "$T/mnt2"
status=0
"$FOREBAY" mount "dir:$STORE" "$T/mnt2" -o "cache=$CACHE" 2>"$T/err" || status=$?
cat "$T/err"
t_eq "status" "$status" 1
t_eq "lines" "$(wc -l <"$T/err")" 1
grep -q "used by another mount" "$T/err" || t_fail "does not say why"
mountpoint -q "$MNT" || t_fail "the first mount is gone"
! mountpoint -q "$T/mnt2" || t_fail "the second one is there"

t_claim "so are two at one place"
status=0
"$FOREBAY" mount "dir:$STORE" "$MNT" -o "cache=$T/c1" 2>"$T/err" || status=$?
cat "$T/err"
t_eq "status" "$status" 1
grep -q "mounted there already" "$T/err" || t_fail "does not say why"
t_eq "mounts" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
unmade "$T/c1"
t_umount

t_claim "a cache directory of another store is refused, and stays as it is"
mkdir "$T/store2"
mount_at 1 "belongs to the store .*cache=" "dir:$T/store2" "$MNT" \
  "cache=$CACHE"

t_claim "another container of the same name is refused, and nothing is lost"
cp -a "$CACHE" "$T/kept"
rm -rf "$STORE" && mkdir "$STORE"
mount_at 1 "another container.*cache directory" "dir:$STORE" "$MNT" \
  "cache=$CACHE"
[ -z "$(ls -A "$STORE")" ] || t_fail "something was written there"
[ -f "$CACHE/index.db" ] || t_fail "the cache is gone"

t_claim "an index made by a newer version is refused"
cp -r "$CACHE" "$T/newer"
if command -v sqlite3 >/dev/null; then
  sqlite3 "$T/newer/index.db" 'PRAGMA user_version = 9999' >/dev/null
else
  python3 -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA user_version = 9999")
db.commit()' "$T/newer/index.db"
fi
mount_at 1 "newer" "dir:$STORE" "$MNT" "cache=$T/newer"

t_claim "a credentials file that others can read is refused"
echo "AZURE_STORAGE_KEY=$BLOBD_KEY" >"$T/credentials"
chmod 0644 "$T/credentials"
mount_at 1 "credentials.*(0600|others)" \
  "https://devstoreaccount1.blob.core.windows.net/box" "$MNT" \
  "cache=$T/c1,credentials=$T/credentials"
unmade "$T/c1"
mount_at 1 "nofile" "https://devstoreaccount1.blob.core.windows.net/box" \
  "$MNT" "cache=$T/c1,credentials=$T/nofile"
unmade "$T/c1"

[ -x "$BLOBD" ] || { echo "no blobd: the rest is not tested" && exit 0; }
blobd_start
blobd_container box >/dev/null

t_claim "a missing credential is refused"
AZURE_STORAGE_KEY='' mount_at 1 "credential" "$BLOBD_URL/box" "$MNT" \
  "cache=$T/c1,store_timeout=5"
unmade "$T/c1"

t_claim "a wrong key is refused at a cache's first mount"
AZURE_STORAGE_KEY=$(head -c 64 /dev/zero | base64 -w0) \
  mount_at 1 "refuses the credentials.*check" "$BLOBD_URL/box" "$MNT" \
  "cache=$T/c1"
unmade "$T/c1"

t_claim "a missing container is refused at a cache's first mount"
mount_at 1 "no such container or directory.*create" "$BLOBD_URL/nobox" "$MNT" "cache=$T/c1"
unmade "$T/c1"

t_claim "a store that does not answer is refused at a cache's first mount"
mount_at 1 "does not answer.*check" \
  "http://127.0.0.1:1/$BLOBD_ACCOUNT/box" "$MNT" \
  "cache=$T/new/deep/c1:$T/new/c2,store_timeout=2"
unmade "$T/new"

t_claim "the same cache directory serves once it is right"
CACHE=$T/c1
t_mount "$BLOBD_URL/box" store_timeout=2
echo local >"$MNT/file"
t_umount --drain

t_claim "a later mount comes up on what is local, with one warning"
blobd_down >/dev/null
"$FOREBAY" mount "$BLOBD_URL/box" "$MNT" -o "cache=$CACHE,store_timeout=2" \
  2>"$T/err"
cat "$T/err"
t_eq "warnings" "$(wc -l <"$T/err")" 1
t_eq "state" "$(t_status state)" offline
t_eq "content" "$(cat "$MNT/file")" local
t_claim "... and is online by itself when the store is back"
blobd_up >/dev/null
is_online() { [ "$(t_status state)" = online ]; }
t_wait_for 20 is_online
t_umount

blobd_stop
