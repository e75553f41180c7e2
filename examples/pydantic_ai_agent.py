"""One line puts clawmw under an agent of pydantic-ai. Here against the emulator, so it runs as is.

python examples/pydantic_ai_agent.py
"""

import asyncio
import json

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import clawmw.pydantic_ai
from clawmw.emulator import Emulator, Reply, ToolUse

POLICY = {
    "version": 1,
    "compress": "balanced",
    "budget": {"chain": {"calls": 3}},
    "trace": "off",
}


def forever(body: dict) -> Reply:
    """A model that calls its tool forever."""
    return Reply(tools=(ToolUse("tickets", {"city": "Oslo"}),))


async def main() -> None:
    with Emulator(bill="openai", brain=forever) as provider:
        place = OpenAIProvider(base_url=provider.base_url, api_key="any")
        agent = Agent(
            OpenAIChatModel("gpt-5.4", provider=place),
            capabilities=[clawmw.pydantic_ai.Capability(POLICY)],  # the one line that matters
        )

        @agent.tool_plain
        def tickets(city: str) -> str:
            """Every ticket there is."""
            return json.dumps([{"id": n, "price": 199 + n % 7, "note": None} for n in range(300)])

        result = await agent.run("Find the cheapest ticket.")
        sent = [m for m in provider.requests[-1].body["messages"] if m["role"] == "tool"]
        print(
            f"a result of {len(tickets('Oslo'))} characters was sent as {len(sent[0]['content'])}"
        )
        print(result.output)
        await place.client.close()


asyncio.run(main())
