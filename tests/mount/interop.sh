#!/bin/bash
# What other tools write is read right, what forebay writes they read: the
# Azure SDK for Python, rclone, AzCopy's documented metadata, and a container
# that already holds blobs of awkward names.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/azurite.sh"
. "$(dirname "$0")/../lib/blobd.sh"
t_begin

SDK_VERSION=12.23.1
venv=$TOP/build/venv
sdk_install() {
  "$venv/bin/python" -c "import azure.storage.blob as b
assert b.__version__ == '$SDK_VERSION'" 2>/dev/null && return
  python3 -m venv "$venv" >"$T/pip.log" 2>&1 &&
    "$venv/bin/pip" install -q "azure-storage-blob==$SDK_VERSION" \
      >>"$T/pip.log" 2>&1
}
mkdir -p "$TOP/build"
(flock 9 && sdk_install) 9>"$TOP/build/.venv.lock" ||
  t_skip "pip cannot install azure-storage-blob: $(tail -n 1 "$T/pip.log")"
command -v rclone >/dev/null || t_skip "there is no rclone"

sdk() { "$venv/bin/python" "$TOP/tests/mount/interop_sdk.py" "$URL" "$@"; }
rest() { "$TOP/tests/lib/azure_rest.py" "$URL" "$@"; }
# rc COMMAND...: rclone, the container is "store:NAME".
rc() {
  RCLONE_CONFIG=/dev/null RCLONE_CONFIG_STORE_TYPE=azureblob \
    RCLONE_CONFIG_STORE_USE_EMULATOR=true \
    RCLONE_CONFIG_STORE_ENDPOINT="${URL%/*}" \
    timeout 60 rclone --retries 1 "$@"
}
# is PATH FORMAT WANTED: stat of something on the mount.
is() { t_eq "$1 ($2)" "$(stat -c "$2" "$MNT/$1")" "$3"; }
holds() { t_eq "content of $1" "$(cat "$MNT/$1")" "$2"; }

foreign_writes() {
  sdk write
  printf 'azcopy' | rest put azcopy/file --meta "permissions=$((0100640))" \
    --meta posix_owner=1001 --meta posix_group=1002 \
    --meta modtime=1600000000123456789 --meta linux_statx_mask=4095 \
    --meta posix_nlink=1 --meta posix_atime=1600000001000000000
  # AzCopy's flags overlap: a symlink also claims to be a character device.
  printf '../sdk/plain.txt' | rest put azcopy/link \
    --meta "permissions=$((0120777))" --meta is_symlink=true \
    --meta is_char_dev=true --meta posix_owner=1003
  rest put azcopy/dir --meta "permissions=$((040750))" \
    --meta hdi_isfolder=true --meta posix_owner=1001 \
    --meta modtime=1500000000000000005 </dev/null
  printf 'amlfs' | rest put amlfs/file --meta owner=1004 --meta group=1005 \
    --meta permissions=0750 --meta "modtime=2020-09-13 12:26:40 +0000"
  mkdir -p "$T/rc/sub"
  echo rclone >"$T/rc/sub/file"
  touch -d @1234567890.123456789 "$T/rc/sub/file"
  rc copy "$T/rc" "store:${URL##*/}/rclone"
}

reads_foreign() {
  t_claim "$1: the SDK's blobs are read"
  holds sdk/plain.txt plain
  is sdk/empty '%s %F' '0 regular empty file'
  t_eq "blocks" "$(sdk get sdk/blocks.bin | md5sum)" \
    "$(md5sum <"$MNT/sdk/blocks.bin")"
  is sdk/plain.txt '%a %u %g' '644 0 0'
  is sdk/typed.json '%a' 600
  is sdk/folder '%F %a' 'directory 755'
  t_eq "blobfuse2's link" "$(readlink "$MNT/sdk/link")" plain.txt
  holds sdk/link plain
  is azcopy '%F %a' 'directory 755'

  t_claim "$1: so are mode, owner, time, link and directory of AzCopy"
  is azcopy/file '%a %u %g %.9Y %s' '640 1001 1002 1600000000.123456789 6'
  is azcopy/link '%F %u' 'symbolic link 1003'
  t_eq "link" "$(readlink "$MNT/azcopy/link")" ../sdk/plain.txt
  holds azcopy/link plain
  is azcopy/dir '%F %a %u %.9Y' 'directory 750 1001 1500000000.000000005'
  is amlfs/file '%a %u %g %Y' '750 1004 1005 1600000000'

  t_claim "$1: and rclone's time"
  holds rclone/sub/file rclone
  is rclone/sub/file '%.9Y' 1234567890.123456789
}

ours() {
  mkdir -p "$MNT/ours/dir"
  echo bytes >"$MNT/ours/file"
  chown 1001:1002 "$MNT/ours/file"
  chmod 640 "$MNT/ours/file"
  touch -d @1400000000.987654321 "$MNT/ours/file"
  chmod 2751 "$MNT/ours/dir"
  ln -s ../sdk/plain.txt "$MNT/ours/link"
  head -c 20000000 /dev/urandom >"$MNT/ours/big"
  echo '{"a":1}' >"$MNT/sdk/typed.json"
  "$FOREBAY" flush "$MNT" || t_fail flush
}

# has NAME LINE...: of what the SDK says of a blob.
has() {
  local name=$1 line
  shift
  sdk meta "$name" >"$T/meta" || t_fail "the SDK does not find $name"
  for line in "$@"; do
    grep -q -x -F "$line" "$T/meta" ||
      t_fail "no '$line' at $name: $(tr '\n' ' ' <"$T/meta")"
  done
}

theirs_read_ours() {
  t_claim "$1: what forebay writes the SDK reads"
  t_eq "bytes" "$(sdk get ours/file)" bytes
  t_eq "many bytes" "$(sdk get ours/big | md5sum)" \
    "$(md5sum <"$MNT/ours/big")"
  has ours/file "permissions=$((0100640))" posix_owner=1001 \
    posix_group=1002 modtime=1400000000987654321 \
    mtime=2014-05-13T16:53:20.987654321Z size=6
  has ours/dir hdi_isfolder=true "permissions=$((042751))" size=0
  has ours/link is_symlink=true "permissions=$((0120777))"
  t_eq "link" "$(sdk get ours/link)" ../sdk/plain.txt

  t_claim "$1: what was there of theirs stays: keys, type, cache control"
  has sdk/typed.json Team=vision type=application/json cache=max-age=60

  t_claim "$1: rclone reads bytes and times"
  t_eq "bytes" "$(rc cat "store:${URL##*/}/ours/file")" bytes
  rc copy "store:${URL##*/}/ours" "$T/back.$1"
  cmp "$T/back.$1/big" "$MNT/ours/big" || t_fail "rclone got other bytes"
  t_eq "its time" "$(stat -c %.9Y "$T/back.$1/file")" 1400000000.987654321
}

# The same names are blobs (as the service lets them be) and files.
names=('sp ace' ' lead' '50%' '%41' '%2F' 'a+b' 'a#b' 'a?b' 'a&b=c' "it's"
  'ünïcödé' '日本語' 'é' '😀' 'a:b*c|d' '~tilde' 'semi;colon' '[b]')

awkward_blobs() {
  local n
  for n in "${names[@]}"; do
    printf '%s' "$n" | rest put "names/$n"
  done
  echo deep | rest put pre/fix/without/marker.txt
  echo child | rest put both/child
  echo blob | rest put both
}

awkward_shown() {
  local n shadow
  t_claim "$1: names with spaces, %, +, #, ?, unicode are shown as they are"
  printf '%s\n' "${names[@]}" | sort >"$T/wanted"
  find "$MNT/names" -mindepth 1 -printf '%P\n' | sort >"$T/shown"
  diff "$T/wanted" "$T/shown" || t_fail "other names"
  for n in "${names[@]}"; do holds "names/$n" "$n"; done

  t_claim "$1: a prefix without marker is a directory"
  is pre/fix '%F' directory
  holds pre/fix/without/marker.txt deep

  t_claim "$1: of a blob and a prefix of one name the directory wins"
  is both '%F' directory
  holds both/child child
  shadow=$(find "$MNT" -maxdepth 1 -name 'both?*' -printf '%f\n')
  t_eq "its blob's shadow" "$(echo "$shadow" | wc -w)" 1
  holds "$shadow" blob
  echo edited >"$MNT/$shadow"
  "$FOREBAY" flush "$MNT" || t_fail flush
  t_eq "edited" "$(rest get both)" edited
  rm "$MNT/$shadow"
  "$FOREBAY" flush "$MNT" || t_fail flush
  if rest head both >/dev/null 2>&1; then t_fail "both is still there"; fi
  t_eq "child" "$(rest get both/child)" child
  is both '%F' directory
}

awkward_written() {
  local n
  t_claim "$1: names that the service would change are stored escaped"
  mkdir "$MNT/odd"
  for n in trail. ... 'back\slash' $'ctl\x01' $'new\nline' $'bad\xff' \
    "${names[@]}"; do
    printf '%s' "$n" >"$MNT/odd/$n"
  done
  "$FOREBAY" flush "$MNT" || t_fail flush
  rest list odd/ | sed 's|^odd/||' | sort >"$T/blobs"
  for n in trail． ..． 'back＼slash' ctl␁ new␊line 'bad‛FF' \
    "${names[@]}"; do
    grep -q -x -F -e "$n" "$T/blobs" ||
      t_fail "no blob odd/$n: $(tr '\n' ' ' <"$T/blobs")"
  done
  # A second host sees the names that were written.
  t_umount
  CACHE=$CACHE.2 t_mount "$URL" ""
  for n in trail. ... 'back\slash' $'ctl\x01' $'new\nline' $'bad\xff' \
    "${names[@]}"; do
    holds "odd/$n" "$n"
  done
}

story() {
  rm -rf "$CACHE" "$CACHE.2"
  rest create-container
  foreign_writes
  awkward_blobs
  t_mount "$URL" ""
  reads_foreign "$1"
  ours
  theirs_read_ours "$1"
  awkward_shown "$1"
  awkward_written "$1"
  t_umount
}

blobd_start
URL=$BLOBD_URL/interop
story blobd
blobd_stop

if azurite_start "$T/azurite"; then
  URL=$AZURITE_URL/interop
  story azurite
  azurite_stop
else
  [ $? = 77 ] || t_fail "Azurite"
fi
