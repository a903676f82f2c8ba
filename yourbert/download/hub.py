"""A model's files from the Hugging Face hub, or from a server that answers like it (HF_ENDPOINT).

All files are taken from one commit, so that a push in between cannot mix two versions. Of large files the hub tells
the sha256 before it sends them; they go straight to their place in the cache, where a broken download resumes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from yourbert.core.errors import UserError, fail
from yourbert.core.storage import link_or_copy
from yourbert.download.checkpoint_files import (
    CONFIG,
    FAST_TOKENIZER,
    PICKLED,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    check_config,
    check_weights,
    complete,
    refuse_without_weights,
)
from yourbert.download.fetch import fetch, probe
from yourbert.download.http import Patience
from yourbert.download.store import Cache

PUBLIC_HUB = "https://huggingface.co"
TRUE = {"1", "ON", "YES", "TRUE"}


def hub_address() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or PUBLIC_HUB


@dataclass
class Hub:
    """One model at one revision. pins: file -> sha256 that it must have, whatever the hub says."""

    name: str
    revision: str
    pins: dict[str, str]
    cache: Cache
    patience: Patience
    commit: str = ""
    _secrets: dict[str, str] = field(default_factory=dict, repr=False)

    def give(self, work: Path) -> str:
        """Places the model's files in `work` and returns the commit, "" where the server names none.

        Raises UserError: W codes as `fetch`; C01, C03, C04, C05 if the model cannot be used.
        """
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE:
            fail("W03", "HF_HUB_OFFLINE is set")
        token = os.environ.get("HF_TOKEN", "")
        if token and hub_address().startswith("https://"):
            self._secrets = {"Authorization": f"Bearer {token}"}
        self._get(CONFIG, work)
        check_config(work / CONFIG, self.name)
        if not self._get_if_there(WEIGHTS, work):
            refuse_without_weights(self.name, pickled=self._has(PICKLED))
        check_weights(work / WEIGHTS, self.name)
        self._get_if_there(TOKENIZER, work)
        if not self._get_if_there(VOCABULARY, work):
            self._get_if_there(FAST_TOKENIZER, work)
        complete(work, self.name)
        return self.commit

    def _get(self, file: str, work: Path) -> None:
        """Fetches one file; the first one fixes the commit of all."""
        about = probe(self._url(file), secrets=self._secrets, patience=self.patience)
        if not self.commit and re.fullmatch(r"[0-9a-f]{40}", about.get("x-repo-commit", "")):
            self.commit = about["x-repo-commit"]
        url = self._url(file)
        told = re.fullmatch(r'(?:W/)?"([0-9a-f]{64})"', about.get("x-linked-etag", ""))
        sha256 = self.pins.get(file) or (told[1] if told else None)
        target = self.cache.place("sha256", sha256) if sha256 else self.cache.incoming(url)
        fetch(url, target, sha256=sha256, secrets=self._secrets, patience=self.patience)
        link_or_copy(target, work / file)

    def _get_if_there(self, file: str, work: Path) -> bool:
        try:
            self._get(file, work)
        except UserError as error:
            if error.problems[0].code == "W01":
                return False
            raise
        return True

    def _has(self, file: str) -> bool:
        try:
            probe(self._url(file), secrets=self._secrets, patience=self.patience)
        except UserError:
            return False
        return True

    def _url(self, file: str) -> str:
        return f"{hub_address()}/{self.name}/resolve/{self.commit or self.revision}/{file}"
