#!/usr/bin/env bash
# The tour that `make demo` gives, once everything is built: a node is started, three real models are
# deployed and asked over HTTP, each start tier is shown with its time, the node scales to zero and
# back, a better version takes over while clients ask, a broken one does not, and the bill is printed. Every answer is checked; the first wrong one ends the demo with status 1.
#
#   PRESET=release MODELS=build/models scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$PWD/build/${PRESET:-release}/bin
models=${MODELS:-build/models}
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
mayfly() { show "mayfly $*"; "$bin/mayfly" "$@"; }
configure() { show "mayfly configure $*"; "$bin/mayfly" configure "$@" >/dev/null; } # without the list of all settings

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
went_back() { "$bin/mayfly" rollout "$1" --json | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["decisions"][0]["change"]["what"] != "rollback")'; }
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
print(f"{'iris':10}{'queue':>12}{'start':>12}{'run':>12}{'together':>12}")
for tier in ("cold", "template", "hot"):
    times = [seen[tier].get(part, 0.0) for part in ("queue", "start", "run")]
    print(f"{tier:10}" + "".join(f"{value:9.2f} ms" for value in [*times, sum(times)]))
PYTHON
}

ask_iris() { ask /functions/iris -d @examples/iris/input.json; expect 'reply["label"] == ["setosa", "versicolor", "virginica"]'; }

[ -x "$bin/mayfly" ] || fail "build first: there is no $bin/mayfly"
[ -d "$models/iris" ] || fail "generate the models first: scripts/make_models.py $models --only demo"

step "1. Start a node"
port=$(free_port)
export MAYFLY_URL=http://127.0.0.1:$port
show "mayfly serve --listen 127.0.0.1:$port --grpc-listen off --data $data"
"$bin/mayfly" serve --listen "127.0.0.1:$port" --grpc-listen off --data "$data" >"$data.log" 2>&1 &
server=$!
wait_until 15 "starting the node" ready

step "2. Deploy three models: a table, a network, a picture classifier"
mayfly deploy iris "$models/iris"
mayfly deploy digits "$models/mlp1m"
mayfly deploy orientation "$models/ocr_orientation"

step "3. Predict on real input"
ask_iris
ask /v2/models/iris/infer -d @examples/iris/request.json
expect 'v2["label"] == ["setosa", "versicolor", "virginica"]'
ask /functions/digits -d @examples/digits/input.json
expect '[row.index(max(row)) for row in reply["probabilities"]] == [0, 1, 2, 3]'
ask /functions/orientation -H 'Content-Type: image/png' --data-binary "@$models/ocr_orientation/upright.png"
expect 'reply["orientation"][0][0] > 0.9'
ask /functions/orientation -H 'Content-Type: image/png' --data-binary "@$models/ocr_orientation/upside-down.png"
expect 'reply["orientation"][0][1] > 0.9'
mayfly invoke iris -d '{"sepal_length": [5.9], "sepal_width": [3.0], "petal_length": [5.1], "petal_width": [1.8]}' |
  tee "$data.invoke"
grep -q virginica "$data.invoke" || fail "expected virginica"

step "4. Where an answer comes from: cold, template, hot"
configure iris idle_timeout=2s template_timeout=1s
wait_until 15 "scaling iris to zero" none instances iris
wait_until 15 "dropping the template of iris" none templates iris
configure iris template_timeout=10m
echo "No process of iris is left: the next answer starts from the compiled artifact on disk."
ask_iris
expect_tier cold
ask_iris
expect_tier hot
echo "The instance ends after two idle seconds; its template stays, and the next one is forked from it."
wait_until 15 "ending the idle instance" none instances iris
ask_iris
expect_tier template
ask_iris
expect_tier hot

step "5. Scale to zero, and back"
for name in iris digits orientation; do
  configure $name idle_timeout=1s template_timeout=1s
done
for name in iris digits orientation; do
  wait_until 15 "scaling $name to zero" none instances $name
  wait_until 15 "dropping the template of $name" none templates $name
done
mayfly status
ask_iris
expect_tier cold

step "6. Improve a model while it is used"
configure iris idle_timeout=30s template_timeout=10m
python3 scripts/callers.py "$MAYFLY_URL/functions/iris" "$data.callers" &
callers=$!
cat >"$data.plan" <<'PLAN'
{"steps": ["shadow", 25, 100], "min_samples": 50, "min_time": "1s", "latency_floor": "20ms"}
PLAN
echo "Four clients ask iris all the time. A random forest is to take over: copies first, then a quarter, then all."
mayfly deploy iris "$models/iris_forest" --rollout "$data.plan"
wait_until 60 "the rollout of iris@2" settled iris
mayfly rollout iris
[ "$(champion iris)" = 2 ] || fail "iris@2 was not promoted"
echo "The next one has a slip: its probabilities are not numbers. No caller is to meet it."
mayfly deploy iris "$models/iris_broken" --rollout "$data.plan"
wait_until 60 "the rollout of iris@3" settled iris
mayfly rollout iris
went_back iris || fail "iris@3 did not go back by itself"
[ "$(champion iris)" = 2 ] || fail "iris@3 took over"
kill -TERM $callers && wait $callers || fail "a caller noticed: $(cat "$data.callers")"
callers=
cat "$data.callers"

step "7. The bill"
mayfly usage

step "8. What iris took from each start tier"
print_tiers

step "Done: every answer was as expected, in $SECONDS s."
