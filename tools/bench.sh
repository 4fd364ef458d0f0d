#!/usr/bin/env bash
# First figures: three nodes in one process on this machine's disk, one writer, callers that each wait
# for their own append. Prints a Markdown table. Use: tools/bench.sh [seconds per row]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
dir=$(mktemp -d)
bin/journalnode dev --base-port 7480 --data-dir "$dir/data" >"$dir/log" 2>&1 &
node=$!
trap 'kill $node 2>/dev/null; wait $node 2>/dev/null || true; rm -rf "$dir"' EXIT
export QJM_ENDPOINTS=127.0.0.1:7480,127.0.0.1:7481,127.0.0.1:7482
bin/qjmclient journal create bench --timeout 20s >/dev/null
field() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"$2" | awk '{printf "%.0f", $1}'; }
echo '| callers | appends/s | p50 µs | p99 µs | max µs |'
echo '|---|---|---|---|---|'
for callers in 1 16 256 2048; do
  out=$(bin/qjmclient bench bench --size 256 --concurrency $callers --duration "${seconds}s" -o json)
  echo "| $callers | $(field ops_per_sec "$out") | $(field p50 "$out") | $(field p99 "$out") | $(field max "$out") |"
done
