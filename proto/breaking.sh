#!/bin/sh
# Compares proto/ with the commit it started from: where it left main, or, on main itself, the commit
# before. Nothing to compare with (a shallow clone, no proto there yet) is no error.
#
#	proto/breaking.sh [COMMIT]
set -eu
cd "$(git rev-parse --show-toplevel)"

baseline() {
	for main in origin/main main; do
		base=$(git merge-base HEAD "$main" 2>/dev/null) || continue
		if [ "$base" != "$(git rev-parse HEAD)" ]; then
			echo "$base"
			return
		fi
	done
	git rev-parse --verify --quiet 'HEAD~1^{commit}' || true
}

base=${1:-$(baseline)}
if [ -z "$base" ]; then
	echo "proto-breaking: no earlier commit to compare with" >&2
	exit 0
fi
base=$(git rev-parse --verify "$base^{commit}")
if [ -z "$(git ls-tree -r --name-only "$base" -- proto | grep '\.proto$' || true)" ]; then
	echo "proto-breaking: commit $base has no proto yet" >&2
	exit 0
fi

# A plain directory, and not buf's own git input: that one knows neither worktrees nor a proto that is
# not there yet.
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$base" buf.yaml proto | tar -x -C "$old"
go tool -modfile=tools/go.mod buf breaking --against "$old"
