"""One line puts clawmw in front of the Anthropic SDK. Here against the emulator, so it runs as is.

python examples/anthropic_client.py
"""

from anthropic import Anthropic, APIStatusError

import clawmw
from clawmw.emulator import Emulator, turns

POLICY = {
    "version": 1,
    "compress": "balanced",
    "budget": {"chain": {"calls": 3}},
    "trace": "off",
}

with Emulator(bill="anthropic", brain=turns(["Hello.", "Still here.", "Last one."])) as provider:
    plain = Anthropic(base_url=provider.base_url.removesuffix("/v1"), api_key="any")
    client = clawmw.wrap(plain, POLICY)  # the one line that matters
    messages = [{"role": "user", "content": "Hi!"}]
    for _ in range(4):
        try:
            with client.messages.stream(
                model="claude-sonnet-5-5", max_tokens=100, messages=messages
            ) as stream:
                text = stream.get_final_text()
        except APIStatusError as stop:  # 402, asked for once: `refusal: message` would answer
            print(stop.body["error"]["message"])
            break
        print(text)
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": "And now?"},
        ]
    client.close()
