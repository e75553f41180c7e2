"""One line puts clawmw under an agent of LangChain. Here against the emulator, so it runs as is.

python examples/langchain_agent.py
"""

import json

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

import clawmw.langchain
from clawmw.emulator import Emulator, loop

POLICY = {
    "version": 1,
    "compress": "balanced",
    "budget": {"chain": {"calls": 3}},
    "trace": "off",
}


@tool
def tickets(attempt: str) -> str:
    """Every ticket there is."""
    return json.dumps([{"id": n, "price": 199 + n % 7, "note": None} for n in range(300)])


with Emulator(bill="openai", brain=loop()) as provider:  # a model that calls its tool forever
    agent = create_agent(
        ChatOpenAI(model="gpt-5.4", base_url=provider.base_url, api_key="any"),
        [tickets],
        middleware=[clawmw.langchain.Middleware(POLICY)],  # the one line that matters
    )
    said = agent.invoke({"messages": [("user", "Find the cheapest ticket.")]})["messages"]
    sent = [m for m in provider.requests[-1].body["messages"] if m["role"] == "tool"]
    print(f"a result of {len(said[2].content)} characters was sent as {len(sent[0]['content'])}")
    print(said[-1].content)
    print(said[-1].response_metadata["clawmw"])
