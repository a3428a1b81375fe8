#!/bin/sh
# Tune two numbers from plain shell: everything an outside worker does is three calls. Needs curl and jq.
#
#     .venv/bin/tuner serve &
#     sh examples/quadratic.sh
set -eu
url=${TUNER_URL:-http://127.0.0.1:8000}/v1/studies
study=quadratic

call() { # METHOD PATH BODY
    curl -sS --fail-with-body -X "$1" "$url$2" -H 'Content-Type: application/json' ${TUNER_TOKEN:+-H "Authorization: Bearer $TUNER_TOKEN"} ${3:+-d "$3"}
}

call POST "" '{"name": "quadratic", "objective": "external", "lease_seconds": 60, "budget": {"n_trials": 15},
  "objectives": [{"metric": "distance", "direction": "minimize"}],
  "search_space": {"x": {"type": "float", "low": -5, "high": 5}, "y": {"type": "int", "low": 0, "high": 9}}}' >/dev/null

while :; do
    asked=$(call POST "/$study/suggest" '{"client_id": "shell"}')
    [ "$(echo "$asked" | jq .done)" = true ] && break
    number=$(echo "$asked" | jq '.trials[0].number // empty')
    if [ -z "$number" ]; then sleep 1; continue; fi
    value=$(echo "$asked" | jq '.trials[0].params | (.x - 2) * (.x - 2) + (.y - 7) * (.y - 7)')
    call POST "/$study/trials/$number/complete" "{\"value\": $value}" >/dev/null
    echo "trial $number: $value"
done
call GET "/$study/best?k=1" "" | jq -c '.items[0] | {number, value, hyperparameters}'
