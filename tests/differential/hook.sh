#!/bin/bash
# What `differential` does to a mount (tests/differential/shake.c):
# hook.sh kill | flush | evict | remount | cold, with FOREBAY, MNT, CACHE, URL,
# OPTIONS and KEEPER_FILE (a file) in the environment.
# `mount` makes the first one.
set -u
umask 022

flushes() {
  again timeout 60 "$FOREBAY" flush "$MNT" >/dev/null
}

# A command that meets a kill ends with an error: once more.
again() {
  for _ in 1 2 3 4 5 6; do
    "$@" 2>"$KEEPER_FILE.err" && return
    [ $? != 124 ] || break # timeout(1): the line is stuck
    sleep 0.3
  done
  cat "$KEEPER_FILE.err" >&2
  "$FOREBAY" status "$MNT" --pending 2>&1 | cut -c1-200 | head -n 30 >&2
  echo "hook: failed: $*" >&2
  exit 1
}

mounts() {
  again "$FOREBAY" mount "$URL" "$MNT" -o "cache=$CACHE,$OPTIONS"
  "$FOREBAY" status "$MNT" --json | jq -r .keeper_pid >"$KEEPER_FILE"
}

unmounts() {
  again umount "$MNT"
  for _ in {1..600}; do
    [ -d "/proc/$(cat "$KEEPER_FILE")" ] || return 0
    sleep 0.02
  done
  echo "hook: the keeper does not end" >&2
  exit 1
}

case $1 in
kill)
  read -r keeper <"$KEEPER_FILE"
  # It may have none just now.
  read -r worker _ <"/proc/$keeper/task/$keeper/children" &&
    kill -KILL "$worker"
  exit 0
  ;;
mount) mounts ;;
flush) flushes ;;
evict)
  flushes
  # What is open stays.
  "$FOREBAY" evict "$MNT" >/dev/null 2>&1 || true
  ;;
remount)
  unmounts
  mounts
  ;;
cold)
  flushes
  unmounts
  rm -rf "$CACHE"
  mkdir "$CACHE"
  mounts
  ;;
esac
