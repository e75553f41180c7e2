"""`clawmw flow`: check, run and resume the flows of a policy."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from clawmw.flow.langgraph import FlowRunner, Outcome, StepDone
    from clawmw.flow.plan import Plan
    from clawmw.policy.models import Policy
    from clawmw.stages.base import ModelRef

__all__ = ["flow"]

_THREAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,63}")


@dataclass(frozen=True, slots=True)
class _Where:
    """What a run is given besides its flow."""

    policy: Path
    checkpoints: Path
    upstream: str | None
    as_json: bool
    options: tuple[str, ...]
    """The options as they were given, to be given again."""


_policy = click.option(
    "--policy", "path", type=click.Path(path_type=Path), required=True, help="The policy file."
)


def _running(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that `run` and `resume` share, as one `_Where`."""

    @_policy
    @click.option(
        "--checkpoints",
        type=click.Path(path_type=Path),
        help="The checkpoint file. Default: clawmw/flows.sqlite in $XDG_STATE_HOME.",
    )
    @click.option("--upstream", metavar="URL", help="Base URL of models that name none.")
    @click.option("--json", "as_json", is_flag=True, help="The whole result as JSON.")
    @wraps(command)
    def with_options(
        path: Path, checkpoints: Path | None, upstream: str | None, as_json: bool, **own: Any
    ) -> None:
        from clawmw.flow.storage import default_path

        options = ["--policy", str(path)]
        if checkpoints is not None:
            options += ["--checkpoints", str(checkpoints)]
        if upstream is not None:
            options += ["--upstream", upstream]
        where = checkpoints or default_path()
        command(_Where(path, where, upstream, as_json, tuple(options)), **own)

    return with_options


@click.group()
def flow() -> None:
    """Check, run and resume the flows of a policy."""


@flow.command()
@click.argument("name", required=False)
@_policy
def validate(name: str | None, path: Path) -> None:
    """Check flow NAME, or all of them. Imports the modules that their tools name."""
    with _errors():
        policy = _load(path)
        for chosen in [name] if name is not None else policy.flows:
            plan = _plan(policy, chosen)
            agents = {step.agent.name for step in plan.steps if step.agent}
            click.echo(
                f"{plan.where}: {_count(len(plan.steps), 'step')},"
                f" {_count(len(agents), 'agent')}, {_count(len(plan.tools), 'tool')}"
            )
        if not policy.flows:
            click.echo(f"{path}: no flows")


@flow.command()
@click.argument("name")
@click.option("--input", "inputs", multiple=True, metavar="K=V", help="An input; JSON or text.")
@click.option("--thread", help="A name for this run. Default: a new one.")
@_running
def run(where: _Where, name: str, inputs: tuple[str, ...], thread: str | None) -> None:
    """Run flow NAME from its beginning."""
    with _errors():
        policy = _load(where.policy)
        plan = _plan(policy, name)
        given = _inputs(inputs, plan)
        thread = _thread(thread or f"{name[:48]}-{secrets.token_hex(4)}")
        with _runner(where, policy, plan, thread) as runner:
            _end(runner.run(given, thread), where)


@flow.command()
@click.argument("thread")
@_running
def resume(where: _Where, thread: str) -> None:
    """Go on with a run that was interrupted, stopped by a limit, or failed."""
    with _errors():
        from clawmw.flow.langgraph import flow_of

        policy = _load(where.policy)
        plan = _plan(policy, flow_of(where.checkpoints, _thread(thread)))
        with _runner(where, policy, plan, thread) as runner:
            _end(runner.resume(thread), where)


@contextmanager
def _runner(where: _Where, policy: Policy, plan: Plan, thread: str) -> Iterator[FlowRunner]:
    """The runner with all it needs from outside: model calls go through the policy."""
    from clawmw.adapters.http import http_client
    from clawmw.flow.call import http_caller
    from clawmw.flow.langgraph import FlowRunner
    from clawmw.observe.otel import OtelObserver
    from clawmw.runtime import Runtime

    models, keys, extensions = _models(policy, plan, where.upstream)
    runtime = Runtime.of(policy)
    observer = next((o for o in runtime.observers if isinstance(o, OtelObserver)), None)
    click.echo(f"flow {plan.name}, thread {thread}", err=True)
    try:
        with _interruptible(where, thread), http_client(runtime) as client:
            yield FlowRunner(
                plan,
                call=http_caller(client, models, keys, extensions),
                checkpoints=where.checkpoints,
                observer=observer,
                progress=_progress(plan),
            )
    finally:
        if observer is not None:
            observer.close()
        runtime.close()


def _models(
    policy: Policy, plan: Plan, upstream: str | None
) -> tuple[dict[str, ModelRef], dict[str, str], dict[str, dict[str, Any]]]:
    """The models of the flow; the keys of those that have one, and where those are that have a
    place of their own, by name."""
    from clawmw.adapters.wire import ENTRY
    from clawmw.errors import PolicyError
    from clawmw.policy.spoken import server
    from clawmw.stages.base import ModelRef

    models: dict[str, ModelRef] = {}
    keys: dict[str, str] = {}
    extensions: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(step.model for step in plan.steps if step.agent):
        entry = policy.models[name]
        base_url = entry.base_url or upstream
        if base_url != upstream or upstream is None:
            at = server(entry)
            base_url = at.base_url if at is not None else None
            extensions[name] = {ENTRY: entry}
        if base_url is None:
            where = f"models.{name}.base_url"
            raise PolicyError(f"{where}: a flow needs it; give it here or use --upstream URL")
        models[name] = ModelRef(name, entry.model, base_url, entry.profile)
        if entry.api_key_env is not None:
            if not os.environ.get(entry.api_key_env):
                where = f"models.{name}.api_key_env"
                raise PolicyError(f"{where}: the environment has no {entry.api_key_env}; set it")
            keys[name] = os.environ[entry.api_key_env]
    return models, keys, extensions


def _load(path: Path) -> Policy:
    from clawmw.policy.load import load_policy

    return load_policy(path)


def _plan(policy: Policy, name: str) -> Plan:
    from clawmw.errors import PolicyError
    from clawmw.flow.expr import did_you_mean
    from clawmw.flow.plan import make_plan
    from clawmw.flow.tools import load_tools

    flow = policy.flows.get(name)
    if flow is None:
        raise PolicyError(f"no flow {name!r} in the policy{did_you_mean(name, policy.flows)}")
    base = Path(policy.folder) if policy.folder else None
    tools = load_tools(flow.tools, f"flows.{name}.tools", base)
    return make_plan(name, flow, models=policy.models, tools=tools, base=base)


def _inputs(pairs: tuple[str, ...], plan: Plan) -> dict[str, Any]:
    """`k=v` options as values: JSON where it is JSON, text else or where the default is text."""
    from clawmw.errors import PolicyError

    given: dict[str, Any] = {}
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found or not key:
            raise PolicyError(f"--input {pair!r}: write it as NAME=VALUE")
        given[key] = text if isinstance(plan.inputs.get(key), str) else _json_or_text(text)
    return given


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _thread(name: str) -> str:
    from clawmw.errors import PolicyError

    if not _THREAD.fullmatch(name):
        raise PolicyError(f"thread {name!r}: letters, digits and _ . : @ + - (at most 64)")
    return name


def _progress(plan: Plan) -> Callable[[StepDone], None]:
    """A printer of one line a step, in columns."""
    wide = max(len(step.id) for step in plan.steps)
    agents = max(len(step.agent.name if step.agent else step.tool or "") for step in plan.steps)

    def show(done: StepDone) -> None:
        who = done.agent or plan.step(done.id).tool or ""
        head = f"{done.id:<{wide}}  {who:<{agents}}"
        if done.status == "skipped":
            click.echo(f"{head}  skipped", err=True)
            return
        parts = [_count(done.calls, "call")] if done.agent else []
        if done.measured:
            partly = "" if done.measured == done.calls else "at least "
            parts.append(
                f"{partly}{done.input_tokens:,} tokens in ({done.cached_tokens:,} cached),"
                f" {done.output_tokens:,} out"
            )
        click.echo("  ".join([head, *parts, f"{done.seconds:.1f} s"]), err=True)

    return show


def _end(outcome: Outcome, where: _Where) -> None:
    """Print how it went; exit code 3 where a limit stopped it."""
    if where.as_json:
        click.echo(json.dumps(_whole(outcome), ensure_ascii=False, indent=2))
    elif outcome.status == "done":
        text = outcome.output
        click.echo(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False))
    if outcome.status == "stopped":
        click.echo(f"clawmw flow: stopped by {outcome.rule}: {outcome.reason}", err=True)
        click.echo(_how_to_go_on(where, outcome.thread), err=True)
        raise SystemExit(3)


def _whole(outcome: Outcome) -> Mapping[str, Any]:
    return {**asdict(outcome), "seconds": round(outcome.seconds, 3)}


@contextmanager
def _errors() -> Iterator[None]:
    """One line for what went wrong, and its exit code."""
    from clawmw.errors import ClawmwError, FlowError

    try:
        yield
    except FlowError as e:
        click.echo(f"clawmw flow: {e}", err=True)
        raise SystemExit(4) from None
    except ClawmwError as e:
        click.echo(f"clawmw flow: {e}", err=True)
        raise SystemExit(1) from None


@contextmanager
def _interruptible(where: _Where, thread: str) -> Iterator[None]:
    """Say how to go on, whatever ends the run early."""
    from clawmw.errors import FlowError

    again = _how_to_go_on(where, thread)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nclawmw flow: interrupted\n{again}", err=True)
        raise SystemExit(130) from None
    except FlowError as e:
        raise FlowError(f"{e}\n{again}") from None


def _how_to_go_on(where: _Where, thread: str) -> str:
    words = ("clawmw", "flow", "resume", thread, *where.options)
    return f"resume with: {shlex.join(words)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
