"""`clawmw init`: a policy to start from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from clawmw.cli.source import DEFAULT

__all__ = ["command"]

SCHEMA = "clawmw.schema.json"
_PRESETS = click.Choice(["minimal", "balanced", "strict"])
"""As in `clawmw.policy.presets`, which is too much to import for a line of help."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT)
@click.option("--preset", "name", type=_PRESETS, default="balanced", show_default=True)
@click.option("--schema/--no-schema", default=True, help="Write the JSON Schema next to it.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def command(path: Path, name: str, schema: bool, force: bool) -> int:
    """Write a policy to start from, to PATH (default: clawmw.yaml).

    Editors with the YAML language server then complete and check it by the schema beside it.
    """
    from clawmw.policy.presets import preset
    from clawmw.policy.schema import policy_schema

    if path.is_dir():
        path = path / DEFAULT
    text = preset(name)
    wanted: dict[Path, str] = {path: text}
    if schema:
        wanted[path] = f"# yaml-language-server: $schema={SCHEMA}\n{text}"
        wanted[path.parent / SCHEMA] = json.dumps(policy_schema(), indent=2) + "\n"
    taken = [] if force else [p for p, content in wanted.items() if _differs(p, content)]
    for file in taken:
        click.echo(f"clawmw: {file} exists and was left alone; --force overwrites it", err=True)
    if taken:
        return 1
    for file, content in wanted.items():
        _write(file, content, force=force)
        click.echo(f"wrote {file}")
    click.echo(f"next: clawmw explain {path}")
    return 0


def _differs(path: Path, content: str) -> bool:
    """Whether something else than `content` lies there; broken links count."""
    if not os.path.lexists(path):
        return False
    try:
        return path.read_text("utf-8") != content
    except (OSError, ValueError):
        return True


def _write(path: Path, content: str, *, force: bool) -> None:
    """All or nothing: a reader sees the old file or the whole new one.

    Without `force` a file that appeared meanwhile is not touched either.
    """
    if os.path.lexists(path) and not force:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(content, "utf-8")
        if force:
            partial.replace(path)
        else:
            os.link(partial, path)  # unlike a rename it fails where something lies
    finally:
        partial.unlink(missing_ok=True)
