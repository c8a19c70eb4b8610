#!/usr/bin/env bash
# clang-tidy over our sources with the build's own compile commands: tidy.sh BUILD_DIR
# A file whose content, headers and checks have not changed since it last passed is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
passed=.cache/tidy
mkdir -p $passed

check() {
  local file=$1 build=$2 passed=$3 key
  key=$( (cat .clang-tidy "$file"; git ls-files -s 'src/*.h' 'bench/*.h'; git diff HEAD -- 'src/*.h') | sha256sum | cut -d' ' -f1)
  [ -f "$passed/$key" ] && return 0
  clang-tidy-19 -p "$build" --quiet --warnings-as-errors='*' "$file" 2>/dev/null && touch "$passed/$key"
}
export -f check

git ls-files 'src/*.cc' 'bench/*.cc' 'tests/*.cc' | grep -vE '_test\.cc$' |
  xargs -P "$(nproc)" -I{} bash -c 'check {} '"$build $passed"' || { echo "tidy: {} has findings" >&2; exit 255; }'
echo "tidy: clean"
