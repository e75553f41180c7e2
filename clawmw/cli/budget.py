"""`clawmw budget`: what is used of the limits, and how to go on beyond them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.source import json_flag, kept_by, read_policy

if TYPE_CHECKING:
    from clawmw.budgets import Budgets
    from clawmw.stages.guard.budget.scopes import Named

__all__ = ["command"]

_day = click.option("--day", is_flag=True, help="The limits of today (UTC), not those for good.")
_METERS = ("calls", "input_tokens", "output_tokens", "usd", "wall", "hops", "concurrent")


@click.group()
def command() -> None:
    """Show, raise or reset what a policy's limits allow.

    A SCOPE is chain:ID, session:ID, agent:NAME, tenant, derived:AGENT, or rule:NAME for a rule
    under `agents`. A call that was stopped says which one, and the very command that raises it.
    """


@command.command()
@click.argument("scope", required=False)
@kept_by
@json_flag
def show(scope: str | None, source: str, as_json: bool) -> None:
    """Show what is used of each limit: of one SCOPE, or of all that were used of late."""
    from clawmw.budgets import plain, said

    with _open(source) as budgets:
        rows = budgets.rows(_scope(scope, day="") if scope else None)
    if as_json:
        click.echo(json.dumps([plain(row) for row in rows], ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("nothing was used so far")
    for row in rows:
        day = f" on {row.scope.day}" if row.scope.day else ""
        of = f" of {said(row.meter, row.limit)}" if row.limit is not None else ", no limit"
        more = f" ({said(row.meter, row.raised)} of it raised)" if row.raised else ""
        full = "  FULL" if row.limit is not None and row.used >= row.limit else ""
        used = said(row.meter, row.used)
        click.echo(f"{row.scope}{day}  {row.meter}: {used}{of}{more}{full}")
        if row.parents and row.meter == "calls":
            click.echo(f"  draws on {', '.join(row.parents)}, too")


@command.command(name="raise")
@click.argument("scope")
@click.argument("meter", type=click.Choice(_METERS))
@click.argument("amount")
@_day
@kept_by
@json_flag
def raise_(scope: str, meter: str, amount: str, day: bool, source: str, as_json: bool) -> None:
    """Raise the METER limit of a SCOPE by AMOUNT, as a policy writes it: 60, 2M, 1.50, 30m.

    The call that was stopped can then be made again; what was done before is not repeated. It
    holds for this scope (with --day: for today) until it is reset.
    """
    by = _amount(meter, amount)
    _change(source, scope, meter, day, as_json, lambda budgets, one: budgets.lift(one, meter, by))


@command.command()
@click.argument("scope")
@click.argument("meter", type=click.Choice(_METERS), required=False)
@_day
@kept_by
@json_flag
def reset(scope: str, meter: str | None, day: bool, source: str, as_json: bool) -> None:
    """Count a SCOPE from zero again (one METER, or all), its limits as the policy has them.

    Calls under way are counted when they end.
    """
    _change(source, scope, meter, day, as_json, lambda budgets, one: budgets.reset(one, meter))


def _change(
    source: str,
    scope: str,
    meter: str | None,
    day: bool,
    as_json: bool,
    change: Callable[[Budgets, Named], Any],
) -> None:
    """Change something, and show how it stands."""
    from clawmw.budgets import plain, said

    with _open(source) as budgets:
        one = _scope(scope, day=budgets.today() if day else "")
        change(budgets, one)
        rows = [row for row in budgets.rows(one) if row.scope == one and meter in (None, row.meter)]
    if as_json:
        click.echo(json.dumps([plain(row) for row in rows], ensure_ascii=False, indent=2))
        return
    for row in rows:
        limit = "no limit" if row.limit is None else f"the limit is {said(row.meter, row.limit)}"
        click.echo(f"{row.scope} {row.meter}: {limit}, {said(row.meter, row.used)} are used")
    if not rows:
        click.echo(f"{one} was not used so far")


def _open(source: str) -> Budgets:
    from clawmw.budgets import Budgets

    return Budgets.of(read_policy(source), time.time)


def _scope(text: str, *, day: str) -> Named:
    from clawmw.stages.guard.budget.scopes import parsed

    found = parsed(text, day)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no scope; write chain:ID, session:ID, agent:NAME, tenant, "
            "derived:AGENT or rule:NAME",
            param_hint="SCOPE",
        )
    return found


def _amount(meter: str, text: str) -> int:
    """An amount as the ledger counts it."""
    from pydantic_core import PydanticCustomError

    from clawmw.stages.units import parse_count, parse_duration, parse_usd

    try:
        if meter == "usd":
            return parse_usd(text)
        return round(parse_duration(text) * 1000) if meter == "wall" else parse_count(text)
    except PydanticCustomError as error:
        raise click.BadParameter(error.message(), param_hint="AMOUNT") from None
