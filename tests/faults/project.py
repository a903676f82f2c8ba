"""A project of small tables, and what a stage says and leaves there when something in it is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from unittest import mock

from tests.support.shipped import WITH_MIXTURE
from yourbert.core.errors import EXIT_CODES, exit_cleanly
from yourbert.download.random_model import make_random_model

PAIRS = "\tid\tsentence1\tsentence2\t"
HEADERS = {
    "ids-sst": "\tid\tsentence\tsentiment",
    "ids-cfimdb": "\tid\tsentence\tsentiment",
    "quora": PAIRS + "is_duplicate",
    "sts": PAIRS + "similarity",
}
LABELS = {"ids-sst": "01234", "ids-cfimdb": "01", "quora": ("0.0", "1.0"), "sts": ("0.5", "1.8", "3.2", "4.6")}
CONTRACT = re.compile(r"YB-[A-Z]\d\d( [^ ].*?:)? .+[.?]|\d+ problems in all; \d+ shown\.")
ROWS = 10


@dataclass(frozen=True)
class Outcome:
    """exit code, lines on stderr, what was logged, and the files that are not as they were."""

    code: int
    lines: list[str]
    log: str
    changed: list[str]

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


class Project:
    """A folder as a fresh clone with a corpus of its own would be, with a trained model and a lock in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.corpus, self.params = folder, folder / "mine", folder / "params.yaml"
        self.corpus.mkdir(parents=True)
        text = WITH_MIXTURE.replace("corpus: bundled", "corpus: mine")
        self.params.write_text(text.replace("num_threads: 0", "num_threads: 1"))
        for task, header in HEADERS.items():
            for split in ("train", "dev"):
                self._table(task, split, header)
        (folder / "data").mkdir()
        for place in ("build/models/sst/11711/model.safetensors", "metrics/runs/sst/11711.json", "dvc.lock"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text("what took an hour")

    def _table(self, task: str, split: str, header: str) -> None:
        texts = 2 if "sentence2" in header else 1
        labels = LABELS[task]
        rows = [
            "\t".join(
                [
                    str(n),
                    f"{split}{n}",
                    *(f"{split} {task} text {n} {t}" for t in range(texts)),
                    labels[n % len(labels)],
                ]
            )
            for n in range(ROWS)
        ]
        (self.corpus / f"{task}-{split}.csv").write_text("\n".join([header, *rows]) + "\n")

    def with_base(self) -> None:
        """Adds a small random encoder, as `download` would."""
        make_random_model("random:1x32", self.corpus, self.folder / "build" / "base")

    def download(self) -> None:
        """The encoder and the corpus, as the stage would place them."""
        self.with_base()
        (self.folder / "build" / "corpus").symlink_to(self.corpus, target_is_directory=True)

    def edit(self, old: str, new: str) -> None:
        """Changes params.yaml once, at the first place where `old` stands."""
        text = self.params.read_text()
        assert old in text, f"params.yaml has no {old!r}"
        self.params.write_text(text.replace(old, new, 1))

    def attempt(self, stage: str, *words: str) -> Outcome:
        """Runs a stage as its command line does, in this process."""
        before, err, log = self._files(), StringIO(), StringIO()
        handler = logging.StreamHandler(log)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        with chdir(self.folder), redirect_stderr(err), signals_kept(), mock.patch.object(sys, "argv", [stage, *words]):
            try:
                module = import_module(f"stages.{stage}")
                exit_cleanly(lambda: module.main(*words))
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                root.removeHandler(handler)
                root.setLevel(level)
        after = self._files()
        changed = sorted(name for name in before if before[name] != after.get(name))
        return Outcome(code, err.getvalue().splitlines(), log.getvalue(), changed)

    def succeed(self, stage: str, *words: str) -> None:
        """Runs a stage that has nothing to complain of."""
        found = self.attempt(stage, *words)
        assert found.code == 0, found.said

    def _files(self) -> dict[str, str]:
        files = (p for p in self.folder.rglob("*") if p.is_file() and not p.is_relative_to(self.folder / ".yourbert"))
        return {p.relative_to(self.folder).as_posix(): _hash(p) for p in files}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if os.access(path, os.R_OK) else "unreadable"


@contextmanager
def signals_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


Change = Callable[[Project], object]


@dataclass(frozen=True)
class Fault:
    """case: its number in the catalogue. code: what the user sees, "" where the work goes on. says, where: patterns."""

    case: str
    change: Change
    code: str
    says: str
    where: str = ""


def assert_refused(project: Project, outcome: Outcome, fault: Fault) -> None:
    """The whole contract of a user's mistake: code, place, one line each, a copy for programs, nothing touched."""
    assert outcome.code == EXIT_CODES[fault.code[0]], outcome.said
    line = next((one for one in outcome.lines if one.startswith(f"YB-{fault.code}") and re.search(fault.says, one)), "")
    assert line, outcome.said
    assert re.search(fault.where, line), line
    assert all(CONTRACT.fullmatch(one) for one in outcome.lines), outcome.said
    assert "Traceback" not in outcome.said and all(one.isprintable() for one in outcome.lines)
    copy = json.loads((project.folder / ".yourbert" / "errors.json").read_text())
    assert any(problem["code"] == fault.code for problem in copy["problems"])
    assert outcome.changed == []
