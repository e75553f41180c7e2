"""Ids that every process derives alike."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.identity import Identity
from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id


@given(st.text(), st.text(), st.text(), st.text())
def test_ids_are_valid_and_the_same_again(
    tenant: str, agent: str, session: str, chain: str
) -> None:
    identity = Identity(tenant, agent, session, chain)
    trace = trace_id(identity)
    assert 0 < trace < 2**128
    assert trace == trace_id(Identity(tenant, "other", "other", chain))
    for span in (root_span_id(trace), agent_span_id(trace, agent, session)):
        assert 0 < span < 2**64


def test_a_chain_named_by_a_trace_id_keeps_it() -> None:
    assert f"{trace_id(Identity(chain='0af7651916cd43dd8448eb211c80319c')):032x}" == (
        "0af7651916cd43dd8448eb211c80319c"
    )
    assert trace_id(Identity(chain="0" * 32)) != 0


def test_tenants_and_agents_do_not_collide() -> None:
    assert trace_id(Identity("a", chain="c")) != trace_id(Identity("b", chain="c"))
    assert agent_span_id(1, "a", "b") != agent_span_id(1, "b", "a")
    assert agent_span_id(1, "a", "b") != agent_span_id(2, "a", "b")
    assert agent_span_id(1, "a", "") != root_span_id(1)


def test_another_process_derives_the_same() -> None:
    code = (
        "from clawmw.core.identity import Identity; from clawmw.observe.spans.ids import trace_id;"
        "print(trace_id(Identity(chain='trip-7')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == trace_id(Identity(chain="trip-7"))
