"""A client that is there already gets a policy; it stays what it was. Against the emulator.

python examples/wrap_client.py
"""

from openai import APIStatusError, OpenAI

import clawmw
from clawmw.emulator import Emulator, turns

POLICY = {"version": 1, "budget": {"agent": {"day": {"calls": 2}}}, "trace": "off"}
MESSAGES = [{"role": "user", "content": "Is the build green?"}]

with Emulator(bill="openai", brain=turns(["It is."])) as provider:
    client = OpenAI(base_url=provider.base_url, api_key="any", timeout=30, max_retries=1)

    # One client a caller: each has its own limits, and all share the connections.
    for agent in ("builder", "reviewer"):
        wrapped = clawmw.wrap(client, POLICY, clawmw.Identity(agent=agent))  # the line that matters
        assert (type(wrapped), wrapped.timeout) == (OpenAI, 30)
        for _ in range(2):
            reply = wrapped.chat.completions.create(model="gpt-5.4", messages=MESSAGES)
            print(f"{agent}: {reply.choices[0].message.content}")
        try:
            wrapped.chat.completions.create(model="gpt-5.4", messages=MESSAGES)
        except APIStatusError as stop:
            print(f"{agent}: {stop.body['message']}")

    # The original is under no policy.
    client.chat.completions.create(model="gpt-5.4", messages=MESSAGES)
    print(f"The provider saw {len(provider.requests)} calls.")
    client.close()
