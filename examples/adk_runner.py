"""One line puts a policy under Google's ADK. Here against the emulator, so it runs as it is.

pip install "clawmw[adk]"; python examples/adk_runner.py
"""

import asyncio

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types

import clawmw.adk
from clawmw.emulator import Emulator, Reply, ToolUse

POLICY = {"version": 1, "budget": {"chain": {"calls": 4}}, "trace": "off"}


def price(ticket: int) -> str:
    """The price of a ticket."""
    return f"Ticket {ticket} is {200 + ticket} EUR."


def brain(body: dict) -> Reply:
    """Looks at ticket after ticket, and would for ever."""
    return Reply(tools=(ToolUse("price", {"ticket": len(body["messages"])}),))


async def main(url: str) -> None:
    model = LiteLlm(model="openai/gpt-5.4", api_base=url, api_key="any")
    agent = LlmAgent(name="researcher", model=model, tools=[price])
    plugin = clawmw.adk.Plugin(POLICY)  # the line that matters
    runner = InMemoryRunner(agent, app_name="tickets", plugins=[plugin])

    session = await runner.session_service.create_session(app_name="tickets", user_id="me")
    ask = types.Content(role="user", parts=[types.Part(text="Which ticket is the cheapest?")])
    async for event in runner.run_async(user_id="me", session_id=session.id, new_message=ask):
        for part in event.content.parts:
            if part.text:
                print(part.text)


with Emulator(bill="openai", brain=brain) as emulator:
    asyncio.run(main(emulator.base_url))
    print(f"{len(emulator.requests)} calls were made")
