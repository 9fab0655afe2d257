# shellcheck shell=sh
# Azurite for tests.  Sourced by a script in tests/*/; runs nothing by itself.
#
#   azurite_install            the pinned version below build/azurite (npm)
#   azurite_start DIR          on a free port; DIR keeps its log (and its data,
#                              unless AZURITE_MEMORY=1).  Sets AZURITE_PID,
#                              AZURITE_PORT and AZURITE_URL (of the account),
#                              exports AZURE_STORAGE_ACCOUNT and _KEY
#   azurite_stop               SIGTERM, which saves its data, and waits
#   azurite_container NAME     makes a container; prints its URL
#
# The first two return 77, with one line why, where Azurite cannot be had.

AZURITE_VERSION=3.35.0
AZURITE_TOP=$(cd "$(dirname "$0")/../.." && pwd -P)
AZURITE_DIR=${AZURITE_DIR:-$AZURITE_TOP/build/azurite}
AZURITE_MAIN=$AZURITE_DIR/node_modules/azurite/dist/src/blob/main.js
AZURITE_PID=

azurite_skip() {
  echo "skipped: $*" >&2
  return 77
}

azurite_is_installed() {
  [ -f "$AZURITE_MAIN" ] && grep -q "\"version\": \"$AZURITE_VERSION\"" \
    "$AZURITE_DIR/node_modules/azurite/package.json"
}

azurite_install() {
  command -v node >/dev/null || { azurite_skip "Azurite needs node"; return; }
  azurite_is_installed && return 0
  command -v npm >/dev/null || { azurite_skip "Azurite needs npm"; return; }
  mkdir -p "$AZURITE_DIR" || return 1
  # Two tests may want it at once.
  (
    flock 9
    azurite_is_installed ||
      npm install --prefix "$AZURITE_DIR" --no-audit --no-fund --omit=dev \
        "azurite@$AZURITE_VERSION" >"$AZURITE_DIR/npm.log" 2>&1
  ) 9>"$AZURITE_DIR/.lock" ||
    azurite_skip "npm cannot install azurite@$AZURITE_VERSION:" \
      "see $AZURITE_DIR/npm.log"
}

azurite_free_port() {
  python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# 0 once it answers HTTP; 1 if the process is gone or 30 s are over.
azurite_wait() {
  python3 - "$AZURITE_PORT" "$AZURITE_PID" <<'PY'
import http.client, os, sys, time

port, pid = map(int, sys.argv[1:])
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        os.kill(pid, 0)
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        c.request("GET", "/")
        server = c.getresponse().getheader("Server") or ""
        # Somebody else may have taken the port.
        sys.exit(0 if server.startswith("Azurite") else 1)
    except ProcessLookupError:
        break
    except OSError:
        time.sleep(0.05)
sys.exit(1)
PY
}

azurite_start() {
  azurite_install || return
  mkdir -p "$1" || return 1
  azurite_log=$1/azurite.log
  for _ in 1 2 3; do
    AZURITE_PORT=$(azurite_free_port)
    if [ "${AZURITE_MEMORY:-0}" = 1 ]; then
      set -- "$1" --inMemoryPersistence
    else
      set -- "$1" --location "$1"
    fi
    azurite_data=$1
    shift
    node "$AZURITE_MAIN" --blobHost 127.0.0.1 --blobPort "$AZURITE_PORT" \
      --silent --skipApiVersionCheck --disableTelemetry "$@" \
      >"$azurite_log" 2>&1 </dev/null &
    AZURITE_PID=$!
    set -- "$azurite_data"
    if azurite_wait; then
      AZURITE_URL=http://127.0.0.1:$AZURITE_PORT/devstoreaccount1
      # The emulators' well-known key: public, no secret.
      AZURE_STORAGE_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
      export AZURITE_URL AZURE_STORAGE_KEY
      export AZURE_STORAGE_ACCOUNT=devstoreaccount1
      return 0
    fi
    azurite_stop
  done
  echo "azurite does not start: $(tail -n 1 "$azurite_log")" >&2
  return 1
}

azurite_stop() {
  [ -n "$AZURITE_PID" ] || return 0
  kill "$AZURITE_PID" 2>/dev/null || true
  wait "$AZURITE_PID" 2>/dev/null || true
  AZURITE_PID=
}

azurite_container() {
  "$AZURITE_TOP/tests/lib/azure_rest.py" "$AZURITE_URL/$1" \
    create-container && echo "$AZURITE_URL/$1"
}
