"""`clawmw demo`: a long task by four agents, with and without clawmw, and what both cost.

`trip.yaml` is the policy and the flow, `desk.md` the agents' common instructions. The flow runs
on LangGraph against the emulator, over real sockets, once for each *rung*: without clawmw, then
with one more mechanism at a time. The difference of two bills is what the mechanism saved.
"""
