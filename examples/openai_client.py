"""Two lines put clawmw in front of the OpenAI SDK. Here against the emulator, so it runs as is.

python examples/openai_client.py
"""

from openai import APIStatusError, OpenAI

import clawmw
from clawmw.emulator import Emulator, turns

POLICY = {
    "version": 1,
    "compress": "balanced",
    "budget": {"chain": {"calls": 3}},
    "refusal": "message",  # or the SDK raises what a status of 402 raises
    "trace": "off",
}

with Emulator(bill="openai", brain=turns(["Hello.", "Still here.", "Last one."])) as provider:
    client = OpenAI(
        base_url=provider.base_url,
        api_key="any",
        http_client=clawmw.http_client(POLICY),  # the one line that matters
    )
    messages = [{"role": "user", "content": "Hi!"}]
    for _ in range(4):
        try:
            reply = client.chat.completions.create(model="gpt-5.4", messages=messages)
        except APIStatusError as stop:  # 402, asked for once: `refusal: message` would answer
            print(stop.body["message"])
            break
        text = reply.choices[0].message.content
        print(text)
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": "And now?"},
        ]
