#!/bin/sh
# The test blob service itself, over the wire: test_blobd.py says what.
TOP=$(cd "$(dirname "$0")/../.." && pwd -P)
if ! command -v python3 >/dev/null; then
  echo "skipped: there is no python3 here"
  exit 77
fi
exec python3 "$TOP/tests/blobd/test_blobd.py" "${BUILD:-$TOP/build}/tests/blobd"
