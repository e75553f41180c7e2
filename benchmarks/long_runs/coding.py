"""A coding agent: reads, re-reads after edits, searches, listings, test reports, diffs."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.long_runs import reports
from benchmarks.long_runs.play import Arguments, Fact, Lead, Output
from benchmarks.long_runs.source import STYLES, File
from benchmarks.long_runs.words import Words

__all__ = ["Coding"]


class Coding:
    """A repository in one language, and what one can do in it."""

    def __init__(self, words: Words) -> None:
        self.words = words
        dice = words.dice
        self.style = words.of(STYLES)
        self.root = words.of(["src", "lib", "pkg", words.noun(), f"packages/{words.noun()}"])
        folders = [f"{self.root}/{words.noun()}" for _ in range(dice.randint(3, 9))]
        self.paths = sorted(
            f"{words.of(folders)}/{words.noun()}_{words.noun()}{self.style.suffix}"
            for _ in range(dice.randint(25, 160))
        )
        self.files: dict[str, File] = {}
        self.suite = reports.suite(words, self.paths)
        self.history = reports.commits(words)
        self.kept: dict[str, Output] = {}
        self.numbered = dice.random() < 0.6
        self.headed = dice.random() < 0.4
        self.system = f"You are a coding agent in a {self.style.name} repository. " + " ".join(
            f"{words.sentence()}" for _ in range(dice.randint(4, 50))
        )
        self.task = (
            f"The {words.noun()} {words.noun()} is wrong when the {words.noun()} is "
            f"{words.of(['empty', 'late', 'doubled', 'missing'])}. Find out why and mend it."
        )
        self.tools: dict[str, Callable[[Arguments], Output]] = {
            "read_file": self._read,
            "search": self._search,
            "list_files": self._list,
            "edit_file": self._edit,
            "run_tests": self._test,
            "git": self._git,
            "shell": self._shell,
        }

    def explore(self) -> tuple[str, Arguments]:
        """A listing, a search for a common word, a test run, the log, a build."""
        draw, words = self.words.dice.random(), self.words
        if draw < 0.2:
            return "list_files", {"path": words.of([".", self.root])}
        if draw < 0.45:
            return "search", {"pattern": words.noun()}
        if draw < 0.6 and self.files:
            return "read_file", {"path": words.of(list(self.files))}
        if draw < 0.75:
            return "run_tests", {"verbose": words.dice.random() < 0.6}
        if draw < 0.88:
            return "git", {"command": words.of(["log", "diff", "diff --stat", "log --oneline"])}
        return "shell", {"command": words.of(["make build", "install", "run app", "lint"])}

    def _file(self, path: str) -> File:
        if path not in self.files:
            size = self.words.size(120, 1400, 25_000)
            self.files[path] = File.made(self.words, self.style, path, size)
        return self.files[path]

    def _read(self, arguments: Arguments) -> Output:
        """A file or 120 lines of it; the same again if nobody edited it."""
        file = self._file(str(arguments["path"]))
        start = int(arguments.get("line", 1))
        most = 120 if "line" in arguments else len(file.lines)
        first = max(0, start - 20) if "line" in arguments else 0
        shown = list(enumerate(file.lines, 1))[first : first + most]
        lines = [f"{n:>5}\t{line}" if self.numbered else line for n, line in shown]
        leads = [Lead("search", {"pattern": name}) for n, name in file.names if _within(n, shown)]
        for number, line in shown:
            if 12 < len(line.strip()) < 79:
                edit = {
                    "path": file.path,
                    "old": line.strip(),
                    "new": f"{line.strip()}{self._end()}",
                }
                leads.append(Lead("edit_file", edit, 0.1 if number % 3 else 0.25))
        facts = [
            Fact(f"What is {name} set to in {file.path}?", value)
            for n, name, value in file.constants
            if _within(n, shown)
        ]
        return Output("\n".join(lines), leads, facts)

    def _end(self) -> str:
        return f"  {self.style.comment} {self.words.noun()}"

    def _edit(self, arguments: Arguments) -> Output:
        """Changes one line and maybe some near it; says so, or shows the place."""
        file = self._file(str(arguments["path"]))
        at = file.edit(str(arguments["old"]), str(arguments["new"]), self.words)
        check = Lead("read_file", {"path": file.path})
        if self.words.dice.random() < 0.5:
            return Output(f"The file {file.path} has been updated.", then=check)
        near = file.lines[max(0, at - 4) : at + 6]
        text = "\n".join(f"{max(0, at - 4) + n + 1:>5}\t{line}" for n, line in enumerate(near))
        said = f"The file {file.path} has been updated. Here is the place:\n{text}"
        return Output(said, then=Lead("run_tests", {"verbose": self.numbered}))

    def _search(self, arguments: Arguments) -> Output:
        """Hits over many files, in grep's or ripgrep's form."""
        pattern = str(arguments["pattern"])
        if pattern not in self.kept:
            self.kept[pattern] = self._hits(pattern)
        return self.kept[pattern]

    def _hits(self, pattern: str) -> Output:
        words, out, leads = self.words, [], []
        for path in words.some(self.paths, min(len(self.paths), 3 + words.size(3, 12, 120))):
            if self.headed:
                out += ["", path]
            for _ in range(words.dice.randint(1, 9)):
                number = words.dice.randint(3, 900)
                hit = self.style.line(words, pattern)
                out.append(f"{number}:{hit}" if self.headed else f"{path}:{number}:{hit}")
                leads.append(Lead("read_file", {"path": path, "line": number}))
        return Output("\n".join(out).strip(), leads)

    def _list(self, arguments: Arguments) -> Output:
        """A listing; the same each time."""
        shape = "ls" if len(self.paths) % 3 == 0 else "find" if len(self.paths) % 3 == 1 else "tree"
        leads = [Lead("read_file", {"path": path}) for path in self.paths]
        if shape == "tree":
            return Output(reports.tree(self.paths), leads)
        if shape == "find":
            return Output("\n".join(f"./{path}" for path in self.paths), leads)
        rows = [
            f"-rw-r--r-- 1 dev dev {len(path) * 977 % 65_000:>6} {1 + len(path) % 28:>2} Mar 11:0"
            f"{len(path) % 9} {path}"
            for path in self.paths
        ]
        return Output(f"total {len(rows) * 8}\n" + "\n".join(rows), leads)

    def _test(self, arguments: Arguments) -> Output:
        """A run of tests, a few of them red."""
        verbose, only = bool(arguments.get("verbose")), arguments.get("only")
        chosen = [test for test in self.suite if only in (None, f"{test[0]}::{test[1]}")]
        found = reports.tests(self.words, self.style.name, chosen, self.paths, verbose=verbose)
        leads = [Lead("run_tests", {"only": name, "verbose": True}, 12.0) for name in found.failed]
        leads += [Lead("run_tests", {"only": name, "verbose": True}, 0.3) for name in found.passed]
        leads += [
            Lead("read_file", {"path": path, "line": line}, 6.0) for path, line in found.places
        ]
        leads += [Lead("search", {"pattern": name}, 4.0) for name in found.names]
        return Output(found.text, leads)

    def _git(self, arguments: Arguments) -> Output:
        """The log, a diff, or a commit at length."""
        words, command = self.words, str(arguments["command"])
        if command.startswith("log"):
            text = reports.log(self.history, short="oneline" in command)
            shown = [f"show {c.digest}" for c in self.history]
            return Output(text, [Lead("git", {"command": show}) for show in shown])
        if command == "diff --stat":
            files = words.some(self.paths, 30)
            text = "\n".join(f" {p} | {words.dice.randrange(1, 90)} ++++--" for p in files)
            return Output(text, [Lead("read_file", {"path": p}) for p in files])
        changed = [self._file(p) for p in words.some(self.paths, 5)]
        text, places = reports.diff(words, self.style, changed)
        leads = [Lead("read_file", {"path": path, "line": line}) for path, line in places]
        return Output(text, leads)

    def _shell(self, arguments: Arguments) -> Output:
        """A build, an installation, or a program that ends in a trace."""
        command = str(arguments["command"])
        if "run" not in command:
            if command not in self.kept:
                self.kept[command] = self._built()
            return self.kept[command]
        text, places, names = reports.trace(self.words, self.style.name, self.paths)
        leads = [Lead("read_file", {"path": p, "line": n}, 5.0) for p, n in places]
        return Output(text, leads + [Lead("search", {"pattern": name}, 4.0) for name in names])

    def _built(self) -> Output:
        text, places, packages = reports.build(self.words, self.paths)
        leads = [Lead("read_file", {"path": p, "line": n}, 4.0) for p, n in places]
        leads += [Lead("shell", {"command": f"install {package}"}) for package in packages]
        return Output(text, leads)


def _within(number: int, shown: list[tuple[int, str]]) -> bool:
    return bool(shown) and shown[0][0] <= number <= shown[-1][0]
