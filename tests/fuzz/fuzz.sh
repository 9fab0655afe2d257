#!/bin/bash
# Everything that parses bytes from outside, under libFuzzer and the
# sanitizers: each fuzzer runs through its corpus (tests/fuzz/corpus/NAME) and
# goes on from there for FUZZ_SECONDS (2; with FULL=1: 600).  FUZZ_ONLY names
# some of them.  What it learns grows in build/fuzz/corpus; FUZZ_KEEP=1 then
# puts the smallest set that reaches as much into tests/fuzz/corpus.  An input
# that fails is kept below build/fuzz/failed.
# timeout: 600
. "$(dirname "$0")/../lib/common.sh"

command -v clang >/dev/null || t_skip "there is no clang (scripts/deps)"
cd "$TOP"
FUZZ=build/fuzz
SECONDS_EACH=${FUZZ_SECONDS:-$([ -n "${FULL:-}" ] && echo 600 || echo 2)}
export TMPDIR="${TMPDIR:-/tmp}"
export ASAN_OPTIONS=detect_leaks=1:handle_abort=1
export UBSAN_OPTIONS=print_stacktrace=1

# Without the runtime of the fuzzers there is nothing to run.
mkdir -p $FUZZ/failed
echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
  clang -x c -fsanitize=fuzzer,address -o $FUZZ/probe - 2>"$FUZZ/probe.log" ||
  t_skip "clang has no libFuzzer: $(grep -m1 error $FUZZ/probe.log)"
make -s -j"$(nproc)" BUILD="${BUILD#"$TOP/"}" fuzzers || t_fail "the fuzzers do not build"

# In pairs: there are as many processors at least.
run() {
  local name=$1 log=$FUZZ/$1.log
  mkdir -p "$FUZZ/corpus/$name" "tests/fuzz/corpus/$name"
  if ! "$FUZZ/tests/fuzz/fuzz_$name" -max_total_time="$SECONDS_EACH" \
    -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="$FUZZ/failed/$name-" \
    "$FUZZ/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1 </dev/null
  then
    tail -n 40 "$log" >&2
    t_fail "$name: see $log, and $FUZZ/failed for the input"
  fi
  echo "  $name: $(awk '/number_of_executed_units/ { print $2 }' "$log")" \
    "runs, $(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
  [ -z "${FUZZ_KEEP:-}" ] || "$FUZZ/tests/fuzz/fuzz_$name" -merge=1 -use_counters=0 \
    -max_len=16384 "tests/fuzz/corpus/$name" "$FUZZ/corpus/$name" \
    >"$log.merge" 2>&1
}

t_claim "no bytes from outside crash, hang or leak (each $SECONDS_EACH s)"
pids=
for source in tests/fuzz/fuzz_*.c; do
  name=$(basename "$source" .c)
  name=${name#fuzz_}
  [ -z "${FUZZ_ONLY:-}" ] || [[ " $FUZZ_ONLY " == *" $name "* ]] || continue
  run "$name" &
  pids="$pids $!"
  while [ "$(jobs -pr | wc -l)" -ge "$(nproc)" ]; do
    wait -n || t_fail "a fuzzer found something"
  done
done
for pid in $pids; do
  wait "$pid" || t_fail "a fuzzer found something"
done
