"""Names of corpus files in params.yaml: a bare file name, or a URL that ends in one."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from yourbert.core.errors import cleaned, fail, quoted
from yourbert.core.storage import MANIFEST


def shown(url: str) -> str:
    """A URL safe to show in a message: without user name, password, query and control characters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return quoted(url)
    query = "?…" if parts.query else ""
    return cleaned(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}")


def is_url(file: str) -> bool:
    return file.lower().startswith(("http://", "https://"))


def local_name(file: str) -> str:
    """The name in the corpus folder of a file or URL of params.yaml.

    Raises UserError (P15) for a name that is a path, hidden, or empty.
    """
    try:
        name = unquote(urlsplit(file).path.rpartition("/")[2]) if is_url(file) else file
    except ValueError:
        name = ""
    if not name or name.startswith(".") or name == MANIFEST or not name.isprintable() or set(name) & set("/\\:"):
        what = f"{quoted(shown(file) if is_url(file) else file)} does not name a file of the corpus"
        fail("P15", what, where="params.yaml: tasks", fix="give a bare file name, or a URL that ends in one")
    return name


def local_names(files: Iterable[str]) -> dict[str, str]:
    """File or URL -> its name in the corpus folder. Raises UserError (P15) if two would get the same name."""
    names: dict[str, str] = {}
    for file in files:
        name = local_name(file)
        other = next((f for f, n in names.items() if n.lower() == name.lower()), None)
        if other is not None:
            both = " and ".join(shown(f) if is_url(f) else f for f in (other, file))
            what = f"two files would both be saved as {quoted(name)}: {both}"
            fail("P15", what, where="params.yaml: tasks", fix="rename one of them")
        names[file] = name
    return names
