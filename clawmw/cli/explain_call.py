"""`clawmw explain-call`: what happened to one model call, rule by rule."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.recorded import open_traces, stop, store_option
from clawmw.cli.source import DEFAULT

if TYPE_CHECKING:
    from clawmw.core.money import Profile
    from clawmw.observe.explained.facts import Facts, Section
    from clawmw.observe.store.spanstore import SpanRow, SpanStore
    from clawmw.policy.lines import PolicyLines

__all__ = ["command"]

_INDENT = "    "


@click.command()
@click.argument("wanted", metavar="[CALL]", required=False)
@click.option("--latest", is_flag=True, help="The call that ended last.")
@click.option(
    "--policy",
    "source",
    metavar="P",
    envvar="CLAWMW_POLICY",
    help="The policy whose lines are shown. Default: clawmw.yaml in this folder, if there is one.",
)
@click.option("--diff", is_flag=True, help="Show the texts that were changed (trace.content).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def command(
    wanted: str | None,
    latest: bool,
    source: str | None,
    diff: bool,
    as_json: bool,
    store: Path | None,
) -> None:
    """Tell what happened to one model call, in order, with the lines of the policy that decided.

    CALL is a span id or an exchange id (`clawmw traces show --json` has both), or the beginning of
    one.
    """
    from clawmw.errors import ClawmwError
    from clawmw.observe.explained.telling import facts_of, tell

    if (wanted is None) == (not latest):
        raise click.UsageError("give either the id of a CALL or --latest")
    try:
        kept = open_traces(store)
        span = _wanted(kept, wanted)
        if span is None or kept is None:
            raise stop("no calls yet; run an agent through clawmw first")
        policy = _policy(source)
        facts = facts_of(kept, span, time.time_ns(), _prices(policy))
    except ClawmwError as error:
        raise stop(str(error)) from None
    sections = tell(facts)
    if as_json:
        click.echo(json.dumps(_json(facts, sections, policy), indent=2, ensure_ascii=False))
        return
    for line in _lines(facts, sections, policy):
        click.echo(line)
    if diff:
        _differences(facts)


def _wanted(store: SpanStore | None, wanted: str | None) -> SpanRow | None:
    """The call asked for; None when the latest is asked for and there is none."""
    from clawmw.observe.reading.calls import find_calls, latest_call

    if wanted is None:
        return latest_call(store) if store is not None else None
    found = find_calls(store, wanted) if store is not None and wanted else []
    if not found:
        raise stop(
            f"no call's span id or exchange id begins with {wanted!r}; `clawmw traces show --json` "
            "lists them"
        )
    if len(found) > 1:
        some = ", ".join(f"{one.span_id} ({one.exchange or 'no exchange'})" for one in found)
        raise stop(f"{wanted!r} could be one of: {some}")
    return found[0]


def _policy(source: str | None) -> PolicyLines | None:
    """The policy given or found; None where there is none."""
    from clawmw.policy.lines import PolicyLines

    if source is None and not Path(DEFAULT).exists():
        return None
    return PolicyLines(Path(source or DEFAULT))


def _prices(policy: PolicyLines | None) -> Callable[[str], Profile]:
    from clawmw.providers.load import profile_for

    named = policy.profiles if policy is not None else {}
    return lambda model: profile_for(named.get(model, model))


def _matching(facts: Facts, policy: PolicyLines | None) -> bool:
    return policy is not None and facts.get("clawmw.policy") == policy.digest


def _lines(
    facts: Facts, sections: tuple[Section, ...], policy: PolicyLines | None
) -> Iterator[str]:
    """The telling as text; a line of the policy stands once, where it first decided."""
    from clawmw.observe.reading.figures import clean, duration, money

    span = facts.span
    took, spent = duration(span.end_ns - span.start_ns), money(span.cost_nano)
    ids = f"span {span.span_id}, exchange {span.exchange or '-'}, trace {span.trace_id}"
    yield f"{clean(span.name)}: {span.status}, {took}, {spent}"
    yield ids
    yield _about_policy(facts, policy)
    shown: set[int | str] = set()
    for section in sections:
        yield ""
        yield section.title
        for point in section.points:
            yield from _wrapped(point.text)
            if point.rule and policy is not None and _matching(facts, policy):
                yield from _where(point.rule, policy, shown)


def _wrapped(text: str) -> Iterator[str]:
    """A sentence in lines that fit, the first two columns in."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    return iter(
        textwrap.wrap(
            text,
            max(width, 40),
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _where(rule: str, policy: PolicyLines, shown: set[int | str]) -> Iterator[str]:
    found = policy.at(rule)
    key = rule if found is None else found.number
    if key in shown:
        return
    shown.add(key)
    if found is None:
        yield f"{_INDENT}by default: {rule}"
    else:
        yield f"{_INDENT}{policy.path.name}:{found.number}: {found.text.strip()}"


def _about_policy(facts: Facts, policy: PolicyLines | None) -> str:
    held = facts.get("clawmw.policy")
    if policy is None:
        return f"policy {held or 'unknown'}; give its file with --policy to see the lines"
    if held is None:
        return f"under which policy is not known; {policy.path} is not quoted"
    if not _matching(facts, policy):
        return (
            f"policy {held}; {policy.path} is another one now ({policy.digest}), so its lines are "
            "not quoted"
        )
    return f"policy {held} = {policy.path}"


def _differences(facts: Facts) -> None:
    """The texts of changed messages, line by line."""
    from clawmw.observe.explained.context import mechanism
    from clawmw.observe.explained.texts import differences

    seen = facts.inside
    if seen is None or not seen.kept:
        click.echo(
            "\nNo texts are kept of this call: `trace: {content: local}` keeps them, on this "
            "machine, for a day."
        )
        return
    signs = {"same": " ", "gone": "-", "new": "+", "skip": "…"}
    colours = {"gone": "red", "new": "green", "skip": "bright_black"}
    for one in seen.messages:
        if not one.changed:
            continue
        place = "added" if one.place is None else f"message {one.place + 1}"
        how = mechanism(one.added_by or one.by[0])
        click.secho(f"\n{place}, {one.role}: {how}", bold=True)
        if one.asked is None and one.sent is None:
            click.echo("  its text is not kept, or no more")
        for row in differences(one):
            click.secho(f"{signs[row.kind]} {row.text}", fg=colours.get(row.kind))


def _json(
    facts: Facts, sections: tuple[Section, ...], policy: PolicyLines | None
) -> dict[str, Any]:
    """The telling as data."""
    span, matching = facts.span, _matching(facts, policy)

    def point(text: str, rule: str) -> dict[str, Any]:
        line = policy.at(rule) if rule and matching and policy is not None else None
        where = {"line": line.number, "text": line.text} if line is not None else None
        return {"text": text, "rule": rule or None, "policy": where}

    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "exchange": span.exchange,
        "status": span.status,
        "policy": {
            "digest": facts.get("clawmw.policy"),
            "file": str(policy.path) if policy is not None else None,
            "agrees": matching if policy is not None else None,
        },
        "sections": [
            {"title": s.title, "points": [point(p.text, p.rule) for p in s.points]}
            for s in sections
        ],
        "outline": _outline(facts),
    }


def _outline(facts: Facts) -> dict[str, Any] | None:
    seen = facts.inside
    if seen is None:
        return None
    return {
        "messages": [
            {
                "place": one.place,
                "role": one.role,
                "digest": one.digest or None,
                "added_by": one.added_by or None,
                "asked_tokens": one.asked_tokens,
                "sent_tokens": one.sent_tokens,
                "parts": [part.to_json() for part in one.parts],
            }
            for one in seen.messages
        ],
        **{key: value for key, value in seen.facts.items() if key != "added"},
    }
