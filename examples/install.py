"""One line for every client of a process, made before or after, by whatever library.

python examples/install.py
"""

import httpx
from openai import OpenAI

import clawmw
from clawmw.emulator import Emulator, turns

POLICY = {
    "version": 1,
    "budget": {"tenant": {"day": {"calls": 3}}},
    "refusal": "message",
    "trace": "off",
}
BODY = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Hello."}]}


def said(client):
    return client.chat.completions.create(**BODY).choices[0].message.content


with Emulator(bill="openai", brain=turns(["Hello."])) as provider:
    before = OpenAI(base_url=provider.base_url, api_key="any")

    with clawmw.install(POLICY):  # or once, at the start: clawmw.install("policy.yaml")
        print("a client made before:", said(before))
        with OpenAI(base_url=provider.base_url, api_key="any") as after:
            print("one made after:", said(after))
        url = provider.base_url + "/chat/completions"
        print("no SDK at all:", httpx.post(url, json=BODY).json()["model"])
        print("too much:", said(before))

    print("afterwards:", said(before))
    print(f"The provider saw {len(provider.requests)} calls.")
    before.close()
