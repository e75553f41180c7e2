"""An operations agent: logs in many formats, tables of commands, pages of an API, exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.long_runs.play import Arguments, Fact, Lead, Output
from benchmarks.long_runs.records import Records, aligned, separated
from benchmarks.long_runs.words import Words

Event = dict[str, Any]


class Operations:
    """Services, their logs and tables, and the records of their API."""

    def __init__(self, words: Words) -> None:
        self.words = words
        dice = words.dice
        self.services = [f"{words.noun()}-{words.of(_ROLES)}" for _ in range(dice.randint(4, 9))]
        self.nodes = [f"{words.made_up()}{dice.randrange(100):02d}" for _ in range(6)]
        self.records = Records(words)
        self.format = words.of(_FORMATS)
        self.said = [_pattern(words) for _ in range(dice.randint(12, 40))]
        self.logs: dict[str, list[str]] = {}
        self.about: dict[str, str] = {}
        self.clock = 0.0
        self.limits = [words.size(5, 40, 400) for _ in range(3)]
        self.running = [
            _process(words, words.of(self.services)) for _ in range(dice.randint(8, 90))
        ]
        self.pods = {
            s: [_pod(words, s, self.nodes) for _ in range(dice.randint(2, 14))]
            for s in self.services
        }
        self.system = (
            "You keep the services of a company running. Find causes, fix them, report briefly. "
            + " ".join(f"Rule {n}: {words.sentence()}" for n in range(dice.randint(5, 40)))
        )
        self.task = f"Since this morning {self.services[0]} answers slowly. Find out why, please."
        self.tools: dict[str, Callable[[Arguments], Output]] = {
            "read_log": self._log,
            "search_logs": self._search,
            "list_processes": self._processes,
            "cluster_get": self._cluster,
            "describe": self._describe,
            "api_get": self._page,
            "export": self._export,
        }

    def explore(self) -> tuple[str, Arguments]:
        """Any log, table, page or export."""
        tool = self.words.of(["read_log", "read_log", "list_processes", "cluster_get", "api_get"])
        if self.words.dice.random() < 0.12:
            return "export", {"report": f"{self.words.noun()} by {self.words.noun()}"}
        often = self.words.dice.random() < 0.5
        service = self.services[0] if often else self.words.of(self.services)
        if tool == "list_processes":
            return tool, {"sort": self.words.of(["cpu", "memory", "start"])}
        if tool == "api_get":
            return tool, {"path": f"/{self.records.name}", "limit": self.words.of(self.limits)}
        return tool, {"service": service}

    def _event(self) -> tuple[Event, bool]:
        """One log event, and whether it is a failure."""
        dice = self.words.dice
        self.clock += dice.expovariate(0.8)
        bad = dice.random() < 0.03
        level = dice.choice(["ERROR", "WARN", "FATAL"]) if bad else dice.choice(_LEVELS)
        request = self.words.hexes(16)
        pattern = dice.choice(_BAD) if bad else dice.choice(self.said)
        message = pattern.format(
            request=request,
            number=dice.randrange(10**4),
            ms=f"{dice.lognormvariate(3, 1):.1f}",
            ident=self.words.ident(),
            ip=self.words.ip(),
            noun=self.words.noun(),
            node=dice.choice(self.nodes),
        )
        event = {"at": self.clock, "level": level, "request": request, "message": message}
        return event | {"thread": f"{self.words.noun()}-{dice.randrange(32)}"}, bad

    def _log(self, arguments: Arguments) -> Output:
        """The service's log; asked for again, it has grown and its head is gone."""
        service = str(arguments["service"])
        lines = self.logs.get(service, [])
        leads: list[Lead] = []
        facts: list[Fact] = []
        size = self.words.size() if not lines else self.words.size(20, 150, 3000)
        fresh: list[str] = []
        while sum(map(len, fresh)) < size * 3:
            event, bad = self._event()
            line = self.format(event, service)
            if bad and self.words.dice.random() < 0.3:
                line += "\n" + self._trace()
            fresh.append(line)
            weight = 12.0 if bad else 0.5
            leads.append(Lead("search_logs", {"query": event["request"]}, weight))
        lines = [*lines[len(fresh) // 3 :], *fresh]
        self.logs[service] = lines
        return Output("\n".join(lines), leads, facts)

    def _trace(self) -> str:
        words = self.words
        package = f"com.{words.made_up()}.{words.noun()}"
        frames = [
            f"\tat {package}.{words.camel()}.{words.verb()}{words.noun().title()}"
            f"({words.camel()}.java:{words.dice.randrange(20, 900)})"
            for _ in range(words.dice.randint(4, 25))
        ]
        cause = f"Caused by: {package}.{words.camel()}Exception: {words.noun()} {words.ident()}"
        return "\n".join([f"{package}.{words.camel()}Error", *frames, cause, *frames[:3]])

    def _search(self, arguments: Arguments) -> Output:
        """Every line of one request, over several services."""
        leads, lines = [], []
        for _ in range(self.words.dice.randint(2, 40)):
            event, bad = self._event()
            event["request"] = arguments["query"]
            service = self.words.of(self.services)
            ident, pod = self.words.ident(), self.words.of(self.pods[service])[0]
            event["message"] += f" ({self.records.singular}={ident} pod={pod})"
            lines.append(self.format(event, service))
            weight = 8.0 if bad else 1.0
            leads.append(Lead("api_get", {"path": f"/{self.records.name}/{ident}"}, weight))
            leads.append(Lead("describe", {"kind": "pod", "name": pod}, weight))
        return Output("\n".join(lines), leads)

    def _processes(self, arguments: Arguments) -> Output:
        """What `ps aux` or `docker ps` prints; the same programs each time, other figures."""
        words, dice = self.words, self.words.dice
        rows, leads = [], []
        docker = arguments["sort"] == "start"
        for pid, ident, image, command, port, called, memory in self.running:
            if docker:
                up = f"Up {dice.randrange(2, 90)} {words.of(['minutes', 'hours', 'days'])}"
                rows.append([ident, image, f'"{command[:22]}…"', up, port, called])
            else:
                load = [f"{dice.expovariate(0.5):.1f}", f"{dice.expovariate(1):.1f}"]
                used = [memory, str(dice.randrange(10**3, 10**6))]
                rows.append(["app", pid, *load, *used, "?", words.of("SRD"), command])
            name = ident if docker else pid
            leads.append(Lead("describe", {"kind": "process", "name": name}))
        heads = _DOCKER if docker else _PS
        return Output(aligned([heads, *rows]), leads)

    def _cluster(self, arguments: Arguments) -> Output:
        """The pods of some services, as kubectl prints them."""
        words, dice = self.words, self.words.dice
        services = {str(arguments.get("service", ""))} | set(words.some(self.services, 6))
        rows, leads, facts = [], [], []
        for service in sorted(services & set(self.pods)):
            for pod, node, address in self.pods[service]:
                bad = dice.random() < 0.06
                state = words.of(["CrashLoopBackOff", "ImagePullBackOff", "Pending"])
                status = state if bad else "Running"
                age = f"{dice.randrange(1, 99)}{words.of('hdm')}"
                restarts = str(dice.randrange(90) if bad else dice.randrange(3))
                ready = "0/1" if bad else "1/1"
                rows.append([service[:4], pod, ready, status, restarts, age, address, node])
                weight = 15.0 if bad else 1.0
                leads.append(Lead("describe", {"kind": "pod", "name": pod}, weight))
                facts.append(Fact(f"Which address had the pod {pod} in the last list?", address))
        heads = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
        return Output(aligned([heads, *rows]), leads, facts)

    def _describe(self, arguments: Arguments) -> Output:
        """Everything about one thing, in the indented form of kubectl."""
        name = str(arguments["name"])
        if name in self.about:
            return Output(self.about[name])
        words, dice = self.words, self.words.dice
        digest, volume = words.hexes(40), f"pvc-{words.uuid()}"
        lines = [f"Name:         {name}", f"Kind:         {arguments['kind']}", "Labels:"]
        lines += [f"              {words.noun()}={words.noun()}" for _ in range(6)]
        lines += [f"Image:        registry.local/{words.noun()}@sha256:{digest}", "Environment:"]
        for _ in range(dice.randint(3, 60)):
            key = f"{words.noun()}_{words.noun()}".upper()
            lines.append(f"  {key}:  {words.of([words.amount(), words.ident(), words.ip()])}")
        lines += ["Volumes:", f"  data: {volume}", "Events:"]
        for _ in range(dice.randint(1, 30)):
            lines.append(
                f"  {words.of(['Normal', 'Warning'])}  {words.of(_REASONS)}  "
                f"{dice.randrange(59)}m  kubelet  {words.verb()} {words.noun()} {words.ident()}"
            )
        self.about[name] = "\n".join(lines)
        leads = [
            Lead("describe", {"kind": "volume", "name": volume}),
            Lead("search_logs", {"query": digest[:12]}, 0.0),
            Lead("describe", {"kind": "image", "name": f"sha256:{digest}"}, 0.5),
        ]
        return Output(self.about[name], leads)

    def _page(self, arguments: Arguments) -> Output:
        return self.records.page(arguments)

    def _export(self, arguments: Arguments) -> Output:
        """A CSV export with a name, an id and sums in each row."""
        heads, rows = self.records.flat(self.words.size(10, 60, 700))
        leads, facts = self.records.chances(heads, rows)
        return Output(separated([heads, *rows], self.words.of(",;\t")), leads, facts)


def _pod(words: Words, service: str, nodes: list[str]) -> tuple[str, str, str]:
    """Name, node and address."""
    name = f"{service}-{words.hexes(9)}-{words.hexes(5)}"
    return name, words.of(nodes), words.ip()


def _process(words: Words, service: str) -> tuple[str, ...]:
    """What stays the same of a process from one listing to the next."""
    dice = words.dice
    pid = str(dice.randrange(300, 99999))
    image = f"registry.local/{service}:{dice.randrange(9)}.{dice.randrange(40)}"
    command = f"/usr/bin/{words.of(_RUNTIMES)} -m {service.replace('-', '.')} --shard={pid}"
    port = f"0.0.0.0:{dice.randrange(8000, 9999)}->80/tcp"
    return pid, words.hexes(12), image, command, port, words.snake(), str(dice.randrange(10**7))


def _pattern(words: Words) -> str:
    """A kind of log message of this run."""
    slots = ["{number}", "{ms} ms", "{ident}", "{ip}", "{noun}", "on {node}", "request={request}"]
    out = [words.verb().title(), words.noun()]
    for slot in words.some(slots, 3):
        out += [words.of(_LINKS), slot]
    return " ".join(out)


def _format_of(style: str) -> Callable[[Event, str], str]:
    def written(event: Event, service: str) -> str:
        at, level, said = event["at"], event["level"], event["message"]
        stamp = f"2025-0{1 + int(at) % 9}-11T{int(at) // 3600 % 24:02d}:{int(at) // 60 % 60:02d}"
        stamp += f":{at % 60:06.3f}"
        if style == "json":
            value = {"ts": stamp, "lvl": level.lower(), "svc": service, "msg": said}
            return json.dumps(value | {"req": event["request"], "thread": event["thread"]})
        if style == "logfmt":
            head = f"time={stamp} level={level.lower()} svc={service}"
            return f'{head} req={event["request"]} msg="{said}"'
        if style == "syslog":
            who = f"{event['thread']}[{int(at) % 9999}]"
            return f"Mar 11 {stamp[11:19]} {service} {who}: {level}: {said}"
        if style == "access":
            status = 500 if level in ("ERROR", "FATAL") else 200
            return (
                f'10.0.3.{int(at) % 250} - - [11/Mar/2025:{stamp[11:19]} +0000] "GET /{service}/'
                f'{event["request"]} HTTP/1.1" {status} {len(said) * 37} "-" "{said}"'
            )
        if style == "bare":
            return f"[{level[0]}{stamp[5:]} {event['thread']}] {said}"
        return f"{stamp}Z {level:<5} [{event['thread']}] {service} - {said}"

    return written


_FORMATS = [_format_of(s) for s in ("json", "logfmt", "syslog", "access", "bare", "plain")]
_ROLES = ["api", "worker", "gateway", "db", "proxy", "cron", "sync", "web", "cache", "ingest"]
_RUNTIMES = ["python3", "node", "java", "ruby", "php", "dotnet"]
_LEVELS = ["INFO"] * 8 + ["DEBUG"] * 3 + ["NOTICE"]
_LINKS = ["for", "of", "in", "with", "after", "=>", ":"]
_REASONS = ["Pulled", "Created", "BackOff", "Unhealthy", "Scheduled", "FailedMount"]
_BAD = [
    "{noun} failed after {ms} ms: timeout talking to {ip} request={request}",
    "cannot {noun} {ident}: connection refused by {node}",
    "out of memory: killed process {number} ({noun})",
    "deadlock detected on {noun} {ident}, rolling back",
    "unexpected status {number} from {noun}, giving up on {ident}",
    "circuit for {noun} opened, {number} calls dropped",
]
_PS = ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "COMMAND"]
_DOCKER = ["CONTAINER ID", "IMAGE", "COMMAND", "STATUS", "PORTS", "NAMES"]
