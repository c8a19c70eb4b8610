#!/usr/bin/env bash
# Runs every fuzz target for a while, growing its corpus in .cache/fuzz: fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
targets=$(git ls-files 'src/*_fuzz.cc' | xargs -n1 basename -s .cc)
# shellcheck disable=SC2086
cmake --build build/fuzz --target $targets
for target in $targets; do
  mkdir -p ".cache/fuzz/$target"
  echo "fuzz: $target for $1 s"
  "build/fuzz/bin/$target" -max_total_time="$1" -rss_limit_mb=4096 -max_len=65536 -print_final_stats=0 -verbosity=0 \
    ".cache/fuzz/$target" "fuzz/corpus/$target"
done
echo "fuzz: no target failed"
