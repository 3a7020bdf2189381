#!/usr/bin/env bash
# The test suite, or a part of it, beside as many spinning processes as there are processors, several times; no
# test may depend on how fast the machine is.
#
#     experiments/bench/busy_tests.sh [ROUNDS [PATHS AND OTHER ARGUMENTS OF PYTEST]]
#     experiments/bench/busy_tests.sh 1 tests/host -p no:xdist
#
# Prints what failed in each round and its last line; exit code 1 if a round failed. Without arguments for
# pytest the suite runs as in `make test`. The spinning processes end with this script, or after two hours.
set -uo pipefail
cd "$(dirname "$0")/../.."
rounds="${1:-3}"
case "$rounds" in
    '' | *[!0-9]*) echo "busy_tests.sh: '$rounds' is no number of rounds; see its head" >&2; exit 2 ;;
esac
shift || true
[ $# -gt 0 ] || set -- -n 2

log="$(mktemp)"
others=()
trap 'kill "${others[@]}" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
for _ in $(seq "$(getconf _NPROCESSORS_ONLN)"); do
    timeout 7200 .venv/bin/python -c "while True: pass" &
    others+=($!)
done

failed=0
for round in $(seq "$rounds"); do
    .venv/bin/python -m pytest -v "$@" >"$log" 2>&1 || failed=1
    grep -E "^(FAILED|ERROR) " "$log" || true
    echo "round $round: $(tail -1 "$log")"
done
exit "$failed"
