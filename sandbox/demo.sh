#!/usr/bin/env bash
# Two experiments on a real mesh: one whose hypothesis holds, and one that
# deviates and is stopped early. Exits 0 if both end as expected.
set -uo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d "${TMPDIR:-/tmp}/squall-demo.XXXXXX") || exit 1
sandbox=
finish() {
  if [ -n "$sandbox" ]; then
    bin/sandbox down --dir "$dir" || kill "$sandbox"
    wait "$sandbox"
  fi
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 4' INT TERM

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

say "starting etcd, kube-apiserver, kube-controller-manager, istiod, Prometheus, and the shop with its sidecars"
mkfifo "$dir/ready"
bin/sandbox up ${PROXYLESS:+--proxyless} --gateways --dir "$dir" >"$dir/ready" &
sandbox=$!
read -r state <"$dir/ready" || fail "the sandbox did not start"
[ "$state" = ready ] || fail "the sandbox did not start"
# shellcheck disable=SC1091 # written by the sandbox
. "$dir/env"

say "experiment 1: ratings is down; the page must survive (expected: held, exit 0)"
bin/squall run experiments/library/ratings-outage.yaml >"$dir/outage.txt"
outage=$?
say "experiment 2: details is slow; the page must stay fast (expected: deviated, stopped early, exit 1)"
bin/squall run experiments/library/details-delay.yaml >"$dir/delay.txt"
delay=$?

say "summaries"
cat "$dir/outage.txt"
echo
cat "$dir/delay.txt"

say "stopping the sandbox"
[ "$outage" = 0 ] || fail "experiment 1 ended with exit code $outage instead of 0"
[ "$delay" = 1 ] || fail "experiment 2 ended with exit code $delay instead of 1"
grep -q '(stopped)' "$dir/delay.txt" || fail "experiment 2 was not stopped early"
