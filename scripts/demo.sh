#!/usr/bin/env bash
# The story that `make demo` tells, once everything is built: a table becomes data, a model is trained on it to a goal,
# and serves; each start tier is shown with its time, down to zero and back; new data come, and a better version is trained,
# judged and rolled out while clients ask; models that were made elsewhere are deployed; the bill is printed. Every answer is checked; the first wrong one ends the demo with status 1.
#
#   PRESET=release MODELS=build/models DATASETS=build/datasets scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$PWD/build/${PRESET:-release}/bin
models=${MODELS:-build/models}
datasets=${DATASETS:-build/datasets}
data=$(mktemp -d "${TMPDIR:-/tmp}/mayfly-demo.XXXXXX")
server=
callers=
bold='' dim='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi

cleanup() {
  local status=$?
  if [ -n "$callers" ]; then
    kill "$callers" 2>/dev/null || true
    wait "$callers" 2>/dev/null || true
  fi
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ $status != 0 ]; then
    printf '\ndemo: failed. The last lines of the node'"'"'s log:\n' >&2
    tail -20 "$data.log" >&2 || true
  fi
  rm -rf "$data" "$data".*
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
show_mayfly() { # as one would type it
  local word line=mayfly
  for word; do
    case $word in *[\ \"]*) line+=" '$word'" ;; *) line+=" $word" ;; esac
  done
  show "$line"
}
mayfly() { show_mayfly "$@"; "$bin/mayfly" "$@"; }
configure() { show_mayfly configure "$@"; "$bin/mayfly" configure "$@" >/dev/null; } # without the list of all settings

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_until() { # SECONDS WHAT COMMAND…
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "$what took too long"
    sleep 0.1
  done
}

ready() {
  kill -0 "$server" 2>/dev/null || fail "the node ended"
  curl -fs -o "$data.ready" "$MAYFLY_URL/v2/health/ready"
}

# How many processes of a kind ("instances" or "templates") a function has.
running() { # KIND FUNCTION
  "$bin/mayfly" status --json | python3 -c '
import json, sys
kind, name = sys.argv[1:]
print(sum(f[kind] for f in json.load(sys.stdin)["functions"] if f["name"] == name))' "$1" "$2"
}
none() { [ "$(running "$1" "$2")" = 0 ]; }

# Of automatic rollouts.
settled() { [ "$("$bin/mayfly" rollout "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])')" = none ]; }
champion() { "$bin/mayfly" traffic "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["champion"])'; }

header() { sed -n "s/^$1: *//Ip" "$data.headers" | tr -d '\r'; }

# "queue;dur=0.03, start;dur=1.2" → "queue 0.03 ms, start 1.2 ms"
timing() { header Server-Timing | sed 's/;dur=\([0-9.]*\)/ \1 ms/g'; }

# One prediction: prints the answer, the start tier and the timings; leaves the answer in $data.body.
ask() { # PATH CURL-ARGUMENTS…
  local path=$1 code
  shift
  code=$(curl -s -o "$data.body" -D "$data.headers" -w '%{http_code}' "$@" "$MAYFLY_URL$path") || fail "no answer from $path"
  [ "$code" = 200 ] || fail "$path answered $code: $(cat "$data.body")"
  printf 'POST %s\n  %s\n' "$path" "$(head -1 "$data.body" | sed 's/^\(.\{110\}\).*/\1…/')"
  printf '  %sstart: %-9s %s%s\n' "$bold" "$(header Mayfly-Start)" "$(timing)" "$plain"
}

# Checks the last answer with a Python expression over `reply`.
expect() { # EXPRESSION
  python3 - "$data.body" "$1" <<'PYTHON' || fail "expected $1 of $(cut -c 1-400 "$data.body")"
import json, sys
reply = json.load(open(sys.argv[1]))
v2 = {tensor["name"]: tensor["data"] for tensor in reply.get("outputs", [])} if isinstance(reply.get("outputs"), list) else {}
sys.exit(not eval(sys.argv[2]))
PYTHON
}

# Checks where the last answer came from, and keeps its times for the closing table.
expect_tier() { # TIER
  [ "$(header Mayfly-Start)" = "$1" ] || fail "expected start tier $1, got $(header Mayfly-Start)"
  printf '%s %s\n' "$1" "$(header Server-Timing)" >>"$data.tiers"
}

# The first answer of each tier, from the kept times.
print_tiers() {
  python3 - "$data.tiers" <<'PYTHON'
import re, sys
seen = {}
for line in open(sys.argv[1]):
    tier, timing = line.split(" ", 1)
    seen.setdefault(tier, {name: float(value) for name, value in re.findall(r"(\w+);dur=([0-9.]+)", timing)})
print(f"{'price':10}{'queue':>12}{'start':>12}{'run':>12}{'together':>12}")
for tier in ("cold", "template", "hot"):
    times = [seen[tier].get(part, 0.0) for part in ("queue", "start", "run")]
    print(f"{tier:10}" + "".join(f"{value:9.2f} ms" for value in [*times, sum(times)]))
PYTHON
}

ask_price() { ask /functions/price -d @"$data.diamond"; expect '0.8 * 1101 < reply["value"][0] < 1.2 * 1101'; }

[ -x "$bin/mayfly" ] || fail "build first: there is no $bin/mayfly"
[ -d "$models/iris" ] || fail "generate the models first: scripts/make_models.py $models --only demo"
[ -f "$datasets/diamonds.csv" ] || fail "make the tables first: scripts/make_datasets.py $datasets diamonds.csv"

# What is known at first, and what comes later.
early=8000
head -n $((early + 1)) "$datasets/diamonds.csv" >"$data.early.csv"
(head -n 1 "$datasets/diamonds.csv"; tail -n +$((early + 2)) "$datasets/diamonds.csv") >"$data.later.csv"
# It was sold for 1101.
echo '{"carat": 0.5, "cut": "Good", "color": "E", "clarity": "SI2", "depth": 58.3, "table": 58, "x": 5.23, "y": 5.2, "z": 3.04}' >"$data.diamond"

step "1. Start a node"
port=$(free_port)
export MAYFLY_URL=http://127.0.0.1:$port
show "mayfly serve --listen 127.0.0.1:$port --grpc-listen off --data $data"
"$bin/mayfly" serve --listen "127.0.0.1:$port" --grpc-listen off --data "$data" >"$data.log" 2>&1 &
server=$!
wait_until 15 "starting the node" ready

step "2. A table becomes data: an immutable snapshot, whose test rows are locked away"
mayfly data put diamonds "$data.early.csv" --target price --split seed=1
mayfly data describe diamonds

step "3. Train to a goal"
mayfly train price --data diamonds --goal "r2 >= 0.95" --seed 1
[ "$(champion price)" = 1 ] || fail "price@1 does not serve"

step "4. It serves: predict, and ask where the answer came from"
ask_price
ask /v2/models/price/infer -d "$(python3 - "$data.diamond" <<'PYTHON'
import json, sys
row = json.load(open(sys.argv[1]))
inputs = [{"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP32", "data": [value]} for name, value in row.items()]
print(json.dumps({"inputs": inputs}))
PYTHON
)"
expect '0.8 * 1101 < v2["value"][0] < 1.2 * 1101'
mayfly lineage "$(header Mayfly-Invocation)"

step "5. Cold, template, hot; and nothing while nobody asks"
configure price idle_timeout=1s template_timeout=1s
wait_until 15 "scaling price to zero" none instances price
wait_until 15 "dropping the template of price" none templates price
mayfly status
configure price idle_timeout=2s template_timeout=10m
echo "No process of price is left: the next answer starts from the compiled artifact on disk."
ask_price
expect_tier cold
ask_price
expect_tier hot
echo "The instance ends after two idle seconds; its template stays, and the next one is forked from it."
wait_until 15 "ending the idle instance" none instances price
ask_price
expect_tier template
ask_price
expect_tier hot

step "6. New data, a better version, while clients ask"
configure price idle_timeout=30s
configure price 'rollout={"steps": ["shadow", 25, 100], "min_samples": 50, "min_time": "1s", "latency_floor": "20ms"}'
python3 scripts/callers.py "$MAYFLY_URL/functions/price" "$data.later.csv" price "$data.callers" &
callers=$!
echo "Four clients ask for prices all the time."
mayfly data append diamonds "$data.later.csv"
mayfly train price --data diamonds --goal "r2 >= 0.95" --seed 1
wait_until 120 "the rollout of price@2" settled price
mayfly rollout price
[ "$(champion price)" = 2 ] || fail "price@2 was not promoted"
kill -TERM $callers && wait $callers || fail "a caller noticed: $(cat "$data.callers")"
callers=
cat "$data.callers"

step "7. Models that were made elsewhere"
mayfly deploy iris "$models/iris"
mayfly deploy orientation "$models/ocr_orientation"
ask /v2/models/iris/infer -d @examples/iris/request.json
expect 'v2["label"] == ["setosa", "versicolor", "virginica"]'
ask /functions/orientation -H 'Content-Type: image/png' --data-binary "@$models/ocr_orientation/upside-down.png"
expect 'reply["orientation"][0][1] > 0.9'

step "8. The bill"
mayfly usage

step "9. What price took from each start tier"
print_tiers

step "Done: every answer was as expected, in $SECONDS s."
