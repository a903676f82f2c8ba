"""The bodies of requests: strict JSON, no more and no less than the fields that stand here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yourbert.core.errors import cleaned, nearest, quoted, shortened
from yourbert.core.tasks import Task
from yourbert.core.text import is_empty, is_text
from yourbert.deploy.serve.limits import Limits, Refused

Row = str | Annotated[list[str], Field(min_length=2, max_length=2)]
Body = TypeVar("Body", bound="RequestBody")


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    task: str | None = Field(None, description="Which task of a model that has several.")


class Predict(RequestBody):
    texts: list[Row] = Field(
        min_length=1, description="Texts; of a pair task, pairs of texts.", examples=[["a warm and funny film"]]
    )


class Explain(RequestBody):
    text: Row = Field(description="One text; of a pair task, two.", examples=["a warm and funny film"])


def read(kind: type[Body], body: bytes) -> Body:
    """Raises Refused (S02) for what is no such body, naming the field."""
    try:
        return kind.model_validate(strict_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # A row is one text or two, and each alternative adds a step of its own to the place.
        place = [str(part) for part in first["loc"] if part not in ("str", "constrained-str") and "[" not in str(part)]
        known = list(kind.model_fields)
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            message = f"no such field, but {' and '.join(known)}{nearest(place[-1], known)}"
        raise Refused(400, "S02", message, field=cleaned(".".join(place))) from None


def strict_json(body: bytes) -> Any:
    """JSON without doubled keys, NaN, infinities and bottomless nesting. Raises Refused (S02)."""
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise Refused(400, "S02", "the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise Refused(400, "S02", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(400, "S02", f"the body is not JSON: {error.msg} at {where}") from None
    except ValueError:
        raise Refused(400, "S02", "a number in the body has too many digits") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, "S02", "the field stands there twice", field=cleaned(twice))
    return found


def _no_number(word: str) -> NoReturn:
    raise Refused(400, "S02", f"{word} is no number of JSON")


def task_of(tasks: Mapping[str, Task], name: str | None) -> Task:
    """The task of that name, or the only one. Raises Refused (S03)."""
    if name is None and len(tasks) == 1:
        return next(iter(tasks.values()))
    if name is None:
        raise Refused(400, "S03", f"the model has {shortened(list(tasks))}: which of them?", field="task")
    if name not in tasks:
        message = f"no task {quoted(name)}; the model has {shortened(list(tasks))}{nearest(name, tasks)}"
        raise Refused(404, "S03", message, field="task")
    return tasks[name]


def rows_of(task: Task, texts: list[Row], limits: Limits, field: str = "texts") -> list[list[str]]:
    """Each row's text or texts. Raises Refused (S02, S04)."""
    if len(texts) > limits.texts:
        raise Refused(413, "S04", f"{len(texts)} texts in one call; {limits.texts} at most", field=field)
    rows = [[row] if isinstance(row, str) else row for row in texts]
    for number, row in enumerate(rows):
        place = field if field == "text" else f"{field}.{number}"
        if len(row) != 1 + task.pair:
            wanted = "two texts, as a list of two" if task.pair else "one text"
            raise Refused(400, "S02", f"task {quoted(task.name)} reads {wanted}", field=place)
        if not all(map(is_text, row)):
            raise Refused(400, "S02", "a text has half of a surrogate pair, which is no character", field=place)
        if any(map(is_empty, row)):
            raise Refused(400, "S02", "a text is empty", field=place)
    return rows
