"""Two lines put a policy under the OpenAI Agents SDK. Against the emulator, so it runs as is.

pip install "clawmw[agents]"; python examples/agents_sdk.py
"""

import asyncio

from agents import Agent, RunConfig, Runner, function_tool, set_trace_processors
from openai import AsyncOpenAI

import clawmw.agents
from clawmw.emulator import Emulator, Reply, ToolUse

POLICY = {"version": 1, "budget": {"chain": {"calls": 5}}, "trace": "off"}
set_trace_processors([])  # nothing is sent to OpenAI's own traces


@function_tool
def price(ticket: int) -> str:
    """The price of a ticket."""
    return f"Ticket {ticket} is {200 + ticket} EUR."


def brain(body: dict) -> Reply:
    """The researcher looks at ticket after ticket; the boss leaves it all to the researcher."""
    count = sum(message["role"] == "tool" for message in body["messages"])
    tool = body["tools"][0]["function"]["name"]
    given = {"ticket": count} if tool == "price" else {"input": "Find the cheapest ticket."}
    return Reply(tools=(ToolUse(tool, given),))


async def main(url: str) -> None:
    researcher = Agent(name="researcher", model="gpt-5.4", tools=[price])
    ask = researcher.as_tool(tool_name="research", tool_description="Finds prices.")
    boss = Agent(name="boss", model="gpt-5.4", tools=[ask])

    client = AsyncOpenAI(base_url=url, api_key="any")  # yours may be left out
    provider = clawmw.agents.Provider(  # the line that matters
        POLICY, openai_client=client, openai_use_responses=False
    )
    config = RunConfig(model_provider=provider)
    result = await Runner.run(boss, "How much is the cheapest ticket?", run_config=config)
    print(result.final_output)


with Emulator(bill="openai", brain=brain) as emulator:
    asyncio.run(main(emulator.base_url))
    print(f"{len(emulator.requests)} calls were made, by both agents together")
