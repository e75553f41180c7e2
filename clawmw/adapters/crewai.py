"""CrewAI under a policy: its own LLM classes, our transport below, and who calls.

CrewAI's hooks see texts and its interceptor cannot answer, so neither can run a policy; the
SDKs under its native providers can (`clawmw.wrap`). The agent's role is the agent, the
outermost kickoff of a crew or a flow is the chain, an agent's work on a task the session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from clawmw.adapters.calling import caller, calling
from clawmw.adapters.refusal import told
from clawmw.adapters.sdk import wrap
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError, Refused
from clawmw.policy.models import Policy
from clawmw.runtime import Runtime, shared

__all__ = ["llm"]

_NAMES = (
    "tools",
    "callbacks",
    "available_functions",
    "from_task",
    "from_agent",
    "response_model",
)
"""What `BaseLLM.call` takes after the messages."""


def llm(
    model: str,
    policy: Runtime | Policy | Mapping[str, Any] | str | Path = "policy.yaml",
    **options: Any,
) -> Any:
    """CrewAI's `LLM(model, **options)` with its calls under `policy`, sync, async and streamed.

    For its native providers on the openai and anthropic SDKs. A stopped call raises `Refused`,
    which ends a crew as a hook's veto does: another task would take the reason for a result.

    Raises `PolicyError`, and `ClawmwError` for a provider that goes another way.
    """
    from crewai import LLM

    runtime = shared(policy)
    found = LLM(model, **options)
    if not hasattr(found, "_build_sync_client"):
        raise ClawmwError(
            f"CrewAI asks {model} through {type(found).__qualname__}, where the policy cannot "
            "decide; use provider='openai' with the base_url of an OpenAI-compatible endpoint"
        )
    kind: Any = type(found)
    found.__class__ = _kind(kind, runtime)
    with suppress(ValueError):  # there is no key yet: CrewAI asks again at the first call
        found._client = found._build_sync_client()
        found._async_client = found._build_async_client()
    return found


@cache
def _kind(plain: Any, runtime: Runtime) -> type:
    class Governed(_Governed, plain):  # type: ignore[misc]
        _governing: ClassVar[Runtime] = runtime

    return Governed


class _Governed:
    """Mixed into one of CrewAI's LLM classes."""

    __slots__ = ()
    _governing: ClassVar[Runtime]

    def _build_sync_client(self) -> Any:
        return wrap(super()._build_sync_client(), self._governing)  # type: ignore[misc]

    def _build_async_client(self) -> Any:
        return wrap(super()._build_async_client(), self._governing)  # type: ignore[misc]

    def call(self, messages: Any, *rest: Any, **given: Any) -> Any:
        """CrewAI's own. Raises `Refused` for a stopped call."""
        with _telling(_who(rest, given)):
            return super().call(messages, *rest, **given)  # type: ignore[misc]

    async def acall(self, messages: Any, *rest: Any, **given: Any) -> Any:
        """`call`, awaiting."""
        with _telling(_who(rest, given)):
            return await super().acall(messages, *rest, **given)  # type: ignore[misc]


def _who(rest: tuple[Any, ...], given: Mapping[str, Any]) -> Identity:
    """The caller: what the user says around the kickoff, else what CrewAI knows."""
    said = caller(None) or Identity()
    role, session, chain = "", "", ""
    with suppress(Exception):  # a CrewAI that we do not know: calls are told apart all the same
        from crewai.execution import get_execution_uuid

        named = {**dict(zip(_NAMES, rest, strict=False)), **given}
        task, agent = named.get("from_task"), named.get("from_agent")
        agent = agent or getattr(task, "agent", None)
        role = str(getattr(agent, "role", "") or "").strip()
        session = f"{task.id}/{role}" if task is not None and role else ""
        chain = get_execution_uuid() or ""
    return Identity(
        agent=role or said.agent, session=said.session or session, chain=said.chain or chain
    )


@contextmanager
def _telling(said: Identity) -> Iterator[None]:
    """Transports below know who calls; a refusal is one that CrewAI does not try again."""
    with calling(said):
        try:
            yield
        except Exception as error:
            reason = told(error)
            if reason is not None:
                raise _stopped()(reason) from error
            raise


@cache
def _stopped() -> type[Refused]:
    from crewai.hooks.dispatch import HookAborted

    return type("Refused", (Refused, HookAborted), {"__module__": "clawmw.errors"})
