"""A chat model under a policy, in the nodes of a LangGraph: branches share one budget.

python examples/langgraph_node.py
"""

import operator
from typing import Annotated, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

import clawmw.langchain
from clawmw.emulator import Emulator, echo

POLICY = {"version": 1, "budget": {"chain": {"calls": 3}}, "trace": "off"}


class State(TypedDict):
    """What the nodes write."""

    cities: list[str]
    notes: Annotated[list[str], operator.add]


with Emulator(bill="openai", brain=echo()) as provider:
    plain = ChatOpenAI(model="gpt-5.4", base_url=provider.base_url, api_key="any")
    model = clawmw.langchain.model(plain, POLICY)  # the one line that matters

    def describe(state: dict[str, str]) -> dict[str, list[str]]:
        """One branch."""
        return {"notes": [str(model.invoke(f"{state['city']} in a word").content)]}

    graph = StateGraph(State)
    graph.add_node("describe", describe)
    graph.add_conditional_edges(
        START, lambda state: [Send("describe", {"city": c}) for c in state["cities"]], ["describe"]
    )
    graph.add_edge("describe", END)
    app = graph.compile(checkpointer=InMemorySaver())
    cities = ["Shanghai", "Lagos", "Lima", "Oslo"]
    thread = {"configurable": {"thread_id": "trip-1"}}  # a thread is a session, a run is a chain
    for note in sorted(app.invoke({"cities": cities, "notes": []}, thread)["notes"]):
        print(note)
