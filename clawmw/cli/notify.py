"""`clawmw notify`: whether `notify:` of a policy works."""

from __future__ import annotations

import time

import click

from clawmw.cli.source import DEFAULT, read_policy

__all__ = ["command"]


@click.command()
@click.option("--policy", "path", default=DEFAULT, show_default=True, metavar="P")
def command(path: str) -> None:
    """Send a test notice, as `notify:` in the policy P says."""
    from clawmw.errors import PolicyError
    from clawmw.observe.notify import send
    from clawmw.policy.build import notify_folder

    policy = read_policy(path)
    notify = policy.notify
    if notify.command is None and notify.webhook is None:
        raise PolicyError(f"{path}: `notify:` names no command and no webhook", where="notify")
    news = {"event": "test", "time": time.time(), "text": "clawmw notify works"}
    send(news, command=notify.command, webhook=notify.webhook, folder=notify_folder(policy))
    click.echo("sent")
