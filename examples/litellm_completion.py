"""litellm's `completion` under a policy, and a policy as one of litellm's providers.

python examples/litellm_completion.py
"""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or importing it asks the network

import litellm

import clawmw
from clawmw.emulator import Emulator, turns
from clawmw.litellm import completion, register

MESSAGES = [{"role": "user", "content": "Hello."}]

with Emulator(bill="openai", brain=turns(["Hello."])) as provider:
    policy = clawmw.load_policy(
        {
            "version": 1,
            "models": {"main": {"model": "gpt-4o", "base_url": provider.base_url}},
            "budget": {"tenant": {"day": {"calls": 3}}},
            "trace": "off",
        }
    )
    there = {"api_base": provider.base_url, "api_key": "any"}

    reply = completion("openai/gpt-4o", MESSAGES, policy=policy, **there)
    print(reply.choices[0].message.content, f"{reply._hidden_params['response_cost']:.7f} USD")

    for chunk in completion("openai/gpt-4o", MESSAGES, policy=policy, stream=True, **there):
        print(chunk.choices[0].delta.content or "", end="")
    print()

    register(policy)  # from here on the policy's models are litellm's, too
    print(litellm.completion("clawmw/main", MESSAGES).choices[0].message.content)
    try:
        litellm.completion("clawmw/auto", MESSAGES)
    except litellm.APIError as stop:
        print(stop.status_code, stop.message)
