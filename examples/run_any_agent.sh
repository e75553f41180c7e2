#!/bin/sh
# Any program under a policy, without a change to it. The model is emulated, so this runs as it is:
#
#     sh examples/run_any_agent.sh
#
# With a key of your own it is one line:
#
#     clawmw run --policy clawmw.yaml -- your-agent --its arguments
set -eu
work=$(mktemp -d)
trap 'kill "$model"; rm -r "$work"' EXIT

clawmw emulate --port 0 --bill openai > "$work/model" &
model=$!
until [ -s "$work/model" ]; do sleep 0.1; done
OPENAI_BASE_URL=$(sed 's/.*: \(http[^ ]*\) .*/\1/' "$work/model")
OPENAI_API_KEY=any
export OPENAI_BASE_URL OPENAI_API_KEY

cat > "$work/policy.yaml" <<'POLICY'
version: 1
budget: {chain: {calls: 3}}   # of all that the command does
trace: off
POLICY

# An agent that knows nothing of clawmw, and does not know when to stop.
cat > "$work/agent.sh" <<'AGENT'
for step in 1 2 3 4 5; do
  curl -sS "$OPENAI_BASE_URL/chat/completions" \
    -H "authorization: Bearer $OPENAI_API_KEY" -H "content-type: application/json" \
    -d "{\"model\": \"gpt-5.4\", \"messages\": [{\"role\": \"user\", \"content\": \"step $step\"}]}" |
    grep -o '"content":"[^"]*"' || exit 1   # a refusal, which says why
done
AGENT

clawmw run --policy "$work/policy.yaml" --agent stubborn -- sh "$work/agent.sh" ||
  echo "the agent ended with $?"
