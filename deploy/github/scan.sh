#!/usr/bin/env bash
# Scan a model as the action's inputs say, write the results to a folder, and fail where that was asked for.
# Values come from the environment, so that none of them is taken for code.
set -euo pipefail

: "${DETROJAN_MODEL:?expected the input model}" "${DETROJAN_DATA:?expected the input data}"
out=${DETROJAN_OUT:-detrojan-scan}
fail_on=${DETROJAN_FAIL_ON:-inconclusive}
case $fail_on in
  backdoored | inconclusive | never) ;;
  *)
    echo "expected fail-on as backdoored, inconclusive or never, got $fail_on" >&2
    exit 4
    ;;
esac

words=("$DETROJAN_MODEL" --data "$DETROJAN_DATA")
[ -z "${DETROJAN_BUDGET:-}" ] || words+=(--budget "$DETROJAN_BUDGET")
[ -z "${DETROJAN_BASELINE:-}" ] || words+=(--baseline "$DETROJAN_BASELINE")
if [ -n "${DETROJAN_ARGS:-}" ]; then
  while IFS= read -r -d '' word; do words+=("$word"); done < <(printf '%s' "$DETROJAN_ARGS" | xargs printf '%s\0')
fi

mkdir -p "$out"
code=0
detrojan scan "${words[@]}" --json "$out/scan.json" --html "$out/scan.html" --sarif "$out/scan.sarif" \
  --junit "$out/scan.xml" | tee "$out/scan.txt" || code=$?

verdict=
case $code in
  0 | 1 | 3) verdict=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$out/scan.json") ;;
esac
{
  echo "verdict=$verdict"
  echo "exit-code=$code"
  echo "sarif=$out/scan.sarif"
} >>"${GITHUB_OUTPUT:-/dev/null}"
{
  echo '### detrojan'
  echo '```text'
  cat "$out/scan.txt"
  echo '```'
} >>"${GITHUB_STEP_SUMMARY:-/dev/null}"

case $code:$fail_on in
  0:* | 1:never | 3:never | 3:backdoored) exit 0 ;;
esac
exit "$code"
