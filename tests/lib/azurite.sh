# Azurite for tests.  Sourced by bash; nothing runs on sourcing.
#
#   azurite_install            pinned version below build/azurite (needs npm)
#   azurite_start DIR          on a free port; DIR keeps its log (and its data,
#                              unless AZURITE_MEMORY=1).  Sets AZURITE_PID,
#                              AZURITE_PORT and AZURITE_URL (of the account)
#   azurite_stop               SIGTERM, which saves its data, and waits
#   azurite_container NAME     makes a container; prints its URL
#
# The first two return 77, with one line why, where Azurite cannot be had.
# The account is the emulators' well-known one; azurite_start exports
# AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY.

AZURITE_VERSION=3.35.0
_azurite_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
_azurite_dir=${AZURITE_DIR:-$_azurite_top/build/azurite}
_azurite_main=$_azurite_dir/node_modules/azurite/dist/src/blob/main.js

_azurite_skip() {
  echo "SKIP: $*" >&2
  return 77
}

_azurite_is_installed() {
  [ -f "$_azurite_main" ] && grep -q "\"version\": \"$AZURITE_VERSION\"" \
    "$_azurite_dir/node_modules/azurite/package.json"
}

azurite_install() {
  command -v node >/dev/null || { _azurite_skip "Azurite needs node"; return; }
  _azurite_is_installed && return 0
  command -v npm >/dev/null || { _azurite_skip "Azurite needs npm"; return; }
  mkdir -p "$_azurite_dir"
  # Two tests may want it at once.
  (
    flock 9
    _azurite_is_installed ||
      npm install --prefix "$_azurite_dir" --no-audit --no-fund --omit=dev \
        "azurite@$AZURITE_VERSION" >"$_azurite_dir/npm.log" 2>&1
  ) 9>"$_azurite_dir/.lock" ||
    _azurite_skip "npm cannot install azurite@$AZURITE_VERSION:" \
      "see $_azurite_dir/npm.log"
}

_azurite_free_port() {
  python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# Returns 0 once it answers HTTP, 1 if the process is gone or 30 s are over.
_azurite_wait() {
  local i
  for ((i = 0; i < 300; i++)); do
    kill -0 "$AZURITE_PID" 2>/dev/null || return 1
    if python3 - "$AZURITE_PORT" <<'PY' 2>/dev/null
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=2)
c.request("GET", "/")
c.getresponse()
PY
    then
      return 0
    fi
    sleep 0.1
  done
  return 1
}

azurite_start() {
  local dir=$1 try where
  azurite_install || return
  mkdir -p "$dir"
  for try in 1 2 3; do # somebody else may take the port first
    AZURITE_PORT=$(_azurite_free_port)
    where=(--location "$dir")
    [ "${AZURITE_MEMORY:-0}" = 1 ] && where=(--inMemoryPersistence)
    node "$_azurite_main" --blobHost 127.0.0.1 --blobPort "$AZURITE_PORT" \
      --silent --skipApiVersionCheck --disableTelemetry "${where[@]}" \
      >"$dir/azurite.log" 2>&1 </dev/null &
    AZURITE_PID=$!
    if _azurite_wait; then
      AZURITE_URL=http://127.0.0.1:$AZURITE_PORT/devstoreaccount1
      export AZURE_STORAGE_ACCOUNT=devstoreaccount1
      export AZURE_STORAGE_KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
      return 0
    fi
    azurite_stop
  done
  echo "azurite: does not start: $(tail -1 "$dir/azurite.log")" >&2
  return 1
}

azurite_stop() {
  [ -n "${AZURITE_PID:-}" ] || return 0
  kill "$AZURITE_PID" 2>/dev/null
  wait "$AZURITE_PID" 2>/dev/null
  AZURITE_PID=
}

azurite_container() {
  "$_azurite_top/tests/lib/azure_rest.py" "$AZURITE_URL/$1" \
    create-container && echo "$AZURITE_URL/$1"
}
