"""From a policy file, text or mapping to a frozen `Policy`, or all that is wrong with it.

Nothing but the file itself is read: no network, no environment. Stages are built once, to
see that they can be; never run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from clawmw.core.ordering import order
from clawmw.errors import PolicyError
from clawmw.policy.document import MAX_BYTES, Document, read
from clawmw.policy.models import General, Policy, for_stages
from clawmw.policy.problems import InvalidPolicyError, Path, Problem, dotted, suggestion
from clawmw.policy.secrets import secrets_in
from clawmw.policy.translate import translate
from clawmw.stages.base import Registration, StageConfig, registered
from clawmw.stages.references import References

__all__ = ["Stages", "digest", "load_policy", "parse_policy"]

Stages = Mapping[str, Registration]

_KEY_LINE = re.compile(r"\s*[\w-]+\s*:(\s|$)")
_LAST_STEP = re.compile(r"(?:\.[^.\[]*|\[\d*\]?|[^.\[]+)$")
_EXPOSED = (
    "this looks like a secret; keep it in an environment variable and give its name "
    "(`api_key_env: NAME`)"
)


def load_policy(
    source: str | File | Mapping[str, Any] | Policy, *, stages: Stages | None = None
) -> Policy:
    """The policy of a file, of YAML text, or of a mapping shaped like the file.

    A `str` with a line break, or one that begins like `key: value`, is text; any other is a
    path. `stages`: what sections there are; default: everything installed. Raises
    `InvalidPolicyError` (a `PolicyError`) naming every problem, one a line.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, Mapping):
        return _resolved(Document(_plain(source)), "policy", stages)
    if isinstance(source, str) and ("\n" in source or _KEY_LINE.match(source)):
        return parse_policy(source, stages=stages)
    policy = parse_policy(_bytes(File(source)), name=str(source), stages=stages)
    return policy.model_copy(update={"folder": str(File(source).absolute().parent)})


def parse_policy(
    text: str | bytes, *, name: str = "policy.yaml", stages: Stages | None = None
) -> Policy:
    """The policy of YAML `text`; `name` stands before each problem's line number."""
    return _resolved(read(text), name, stages)


def digest(policy: Policy) -> str:
    """Twelve hex digits of the resolved policy: same behaviour, same digest.

    Comments, key order (but that of `agents`, where the first match counts), spelling of
    units and whether a default is written out make no difference.
    """
    resolved = policy.model_dump(exclude={"written", "folder"})
    resolved["agents"] = list(resolved["agents"].items())
    text = json.dumps(_canonical(resolved), ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _bytes(path: File) -> bytes:
    try:
        if path.is_dir():
            raise PolicyError(f"{path}: this is a folder; give the policy file in it")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        advice = "`clawmw init` writes one to start from"
        raise PolicyError(f"{path}: there is no such file; {advice}") from None
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise PolicyError(f"{path}: cannot be read: {reason}") from None


def _resolved(document: Document, name: str, stages: Stages | None) -> Policy:
    known = registered() if stages is None else stages
    problems = list(document.problems)
    policy: Policy | None = None
    if isinstance(document.data, dict):
        secret = set(secrets_in(document.data))
        problems += [_located(document, path, _EXPOSED) for path in secret]
        found = _Resolver(document.data, known)
        policy = found.policy()
        problems += [
            _located(document, path, message)
            for path, message in found.problems
            if not any(_covers(s, path) for s in secret)
        ]
        if policy is not None and not problems:
            problems += _tried(document, policy, known)
    if problems or policy is None:
        raise InvalidPolicyError(name, _sorted(problems))
    return policy


def _tried(document: Document, policy: Policy, known: Stages) -> Iterator[Problem]:
    """What only building shows: a condition that does not compile, a conflict of orders."""
    materials = for_stages(policy)
    built = []
    for section, config in policy.stages.items():
        try:
            if config.enabled:
                built.append(known[section].build(config, materials))
        except PolicyError as e:
            where = e.where or section
            yield Problem(where, e.line or _line_of(document, where), str(e))
    expand = policy.stages.get("expand")
    if getattr(expand, "blobs", "") == "disk" and policy.store.disk is None:
        where = "expand.blobs"
        said = "disk needs a folder; write `store: {disk: FOLDER}`"
        yield Problem(where, _line_of(document, where), said)
    try:
        order(built)
    except PolicyError as e:
        yield Problem(e.where, e.line, str(e))


def _line_of(document: Document, where: str) -> int | None:
    """The line of a dotted path, or of the closest thing around it that was written."""
    lines = {dotted(path): line for path, line in document.lines.items()}
    while where and where not in lines:
        where = _LAST_STEP.sub("", where)
    return lines.get(where)


class _Resolver:
    """Each section against its own config, collecting what is wrong in all of them."""

    def __init__(self, data: dict[str, Any], known: Stages) -> None:
        self.problems: list[tuple[Path, str]] = []
        self._data = data
        self._known = known
        named = data.get("models")
        self._context = References(frozenset(named) if isinstance(named, dict) else frozenset())

    def policy(self) -> Policy | None:
        """The policy, or None with `problems` filled."""
        general = self._general()
        configs = {section: self._config(r) for section, r in self._known.items()}
        stages = {section: config for section, config in configs.items() if config is not None}
        if self.problems or general is None:
            return None
        given = {name: getattr(general, name) for name in general.model_fields_set}
        written = frozenset(self._data) & frozenset(self._known)
        return Policy(**given, stages=stages, written=written)

    def _general(self) -> General | None:
        keys = set(General.model_fields)
        for key in self._data:
            if key not in keys and key not in self._known:
                advice = suggestion(key, keys | set(self._known))
                self.problems.append(((key,), f"unknown section; {advice}"))
        data = {  # `agents:` with nothing below it says nothing
            key: value
            for key, value in self._data.items()
            if key in keys and (value is not None or key == "version")
        }
        if "version" not in data:
            self.problems.append((("version",), "this key is required; write `version: 1`"))
            data["version"] = 1
        try:
            return General.model_validate(data, context=self._context)
        except ValidationError as error:
            self.problems += translate(error, General, data)
            return None

    def _config(self, registration: Registration) -> StageConfig | None:
        section, config = registration.section, registration.config
        if section not in self._data:
            return config() if registration.default else config(enabled=False)
        value = self._data[section]
        try:
            return config.model_validate(value, context=self._context)
        except ValidationError as error:
            self.problems += translate(error, config, value, (section,))
            return None


def _located(document: Document, path: Path, message: str) -> Problem:
    """On the line of the path, or of the closest thing around it that was written."""
    around: Iterable[Path] = (path[:length] for length in range(len(path), 0, -1))
    line = next((document.lines[at] for at in around if at in document.lines), None)
    return Problem.at(path, line, message)


def _covers(outer: Path, inner: Path) -> bool:
    return inner[: len(outer)] == outer


def _sorted(problems: Iterable[Problem]) -> Iterator[Problem]:
    yield from sorted(dict.fromkeys(problems), key=lambda p: (p.line or 0, p.where, p.message))


def _plain(value: Any) -> Any:
    """A mapping built in code, as the reader would have given it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (set, frozenset)):
        return sorted((_canonical(item) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
