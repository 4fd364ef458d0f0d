#!/usr/bin/env bash
# Runs qjm as it was at a commit and as it is in this tree, in turn, and prints what changed.
# Both are built with this tree's harness, or, where that does not fit the code of then, with the harness of then.
# Use: tools/bench-compare.sh REF RUNS [flags of bench]
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?which commit to compare with} runs=${2:?how often to run each}
shift 2
git rev-parse --quiet --verify "$base^{commit}" >/dev/null || base="origin/$base"
dir=$(mktemp -d)
cleanup() {
  git worktree remove --force "$dir/tree" 2>/dev/null || true
  rm -rf "$dir"
  git worktree prune
}
trap cleanup EXIT
build() { # directory, output: without the rivals, and with the requirements of the tree it is in
  (cd "$1/bench" && go build -mod=mod -tags qjmonly -ldflags "-X main.revision=$3" -o "$2" .)
}
git worktree add --quiet --detach "$dir/tree" "$base"
mkdir -p "$dir/then"
if [ -d "$dir/tree/bench" ]; then mv "$dir/tree/bench" "$dir/then/bench"; fi
mkdir "$dir/tree/bench"
git ls-files -z --cached --others --exclude-standard bench | xargs -0 cp --parents -t "$dir/tree"
(cd bench && go build -tags qjmonly -ldflags "-X main.revision=new" -o "$dir/new" .)
if ! build "$dir/tree" "$dir/base" "$base"; then
  echo "this tree's harness does not fit $base: taking the harness of then" >&2
  rm -rf "$dir/tree/bench"
  mv "$dir/then/bench" "$dir/tree/bench"
  build "$dir/tree" "$dir/base" "$base"
fi
cd bench
"$dir/new" compare -base "$dir/base" -new "$dir/new" -runs "$runs" -- "$@"
