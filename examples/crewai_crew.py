"""One line puts a policy under CrewAI. Here against the emulator, so it runs as it is.

pip install "clawmw[crewai]"; python examples/crewai_crew.py
"""

from crewai import Agent, Crew, Task
from crewai.tools import tool

import clawmw.crewai
from clawmw.emulator import Emulator, Reply, ToolUse
from clawmw.errors import Refused

POLICY = {"version": 1, "budget": {"chain": {"calls": 4}}, "trace": "off"}


@tool
def price(ticket: int) -> str:
    """The price of a ticket."""
    return f"Ticket {ticket} is {200 + ticket} EUR."


def brain(body: dict) -> Reply:
    """Looks at ticket after ticket, and would for ever."""
    return Reply(tools=(ToolUse("price", {"ticket": len(body["messages"])}),))


with Emulator(bill="openai", brain=brain) as emulator:
    llm = clawmw.crewai.llm(  # the line that matters
        "openai/gpt-5.4", POLICY, base_url=emulator.base_url, api_key="any"
    )
    agent = Agent(role="researcher", goal="the cheapest", backstory="thrifty", llm=llm)
    task = Task(
        description="Which ticket is the cheapest?",
        expected_output="its price",
        agent=agent,
        tools=[price],
    )
    try:
        print(Crew(agents=[agent], tasks=[task]).kickoff())
    except Refused as stop:
        print(stop)
    print(f"{len(emulator.requests)} calls were made")
