"""The bodies of requests: strict JSON with exactly these fields; `openapi.py` describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yourbert.core.errors import cleaned, nearest, quoted, shortened
from yourbert.core.tasks import Task
from yourbert.core.text import is_empty, is_text
from yourbert.deploy.serve.limits import Limits, RequestError

TextOrPair = str | Annotated[list[str], Field(min_length=2, max_length=2)]
Body = TypeVar("Body", bound="RequestBody")


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    task: str | None = None


class PredictRequest(RequestBody):
    texts: list[TextOrPair] = Field(min_length=1)


class ExplainRequest(RequestBody):
    text: TextOrPair


def parse_body(kind: type[Body], body: bytes) -> Body:
    """Parses and validates a body. Raises RequestError (S02) that names the field."""
    try:
        return kind.model_validate(strict_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # A row is a union type, and pydantic adds the name of each alternative to the location.
        path = [str(part) for part in first["loc"] if part not in ("str", "constrained-str") and "[" not in str(part)]
        known = list(kind.model_fields)
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            message = f"unknown field (known: {', '.join(known)}){nearest(path[-1], known)}"
        raise RequestError(400, "S02", message, field=cleaned(".".join(path))) from None


def strict_json(body: bytes) -> Any:
    """Parses JSON without duplicate keys, NaN and infinity. Raises RequestError (S02)."""
    try:
        return json.loads(body, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise RequestError(400, "S02", "the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise RequestError(400, "S02", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestError(400, "S02", f"the body is not JSON: {error.msg} at {where}") from None
    except ValueError:
        raise RequestError(400, "S02", "a number in the body has too many digits") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise RequestError(400, "S02", "duplicate field", field=cleaned(duplicate))
    return fields


def _refuse_constant(word: str) -> NoReturn:
    raise RequestError(400, "S02", f"{word} is not valid JSON")


def find_task(tasks: Mapping[str, Task], name: str | None) -> Task:
    """The task of that name, or the only one. Raises RequestError (S03)."""
    if name is None and len(tasks) == 1:
        return next(iter(tasks.values()))
    if name is None:
        raise RequestError(
            400, "S03", f"the model has several tasks ({shortened(list(tasks))}); name one", field="task"
        )
    if name not in tasks:
        message = f"no task {quoted(name)}; the model has {shortened(list(tasks))}{nearest(name, tasks)}"
        raise RequestError(404, "S03", message, field="task")
    return tasks[name]


def check_rows(task: Task, texts: list[TextOrPair], limits: Limits, field: str) -> list[list[str]]:
    """The texts of each row, checked. Raises RequestError (S02, S04)."""
    if len(texts) > limits.max_texts:
        message = f"{len(texts)} texts in one request; at most {limits.max_texts} are allowed"
        raise RequestError(413, "S04", message, field=field)
    rows = [[row] if isinstance(row, str) else row for row in texts]
    for number, row in enumerate(rows):
        path = field if field == "text" else f"{field}.{number}"
        if len(row) != 1 + task.pair:
            wanted = "two texts, as a list of two" if task.pair else "one text"
            raise RequestError(400, "S02", f"task {quoted(task.name)} reads {wanted}", field=path)
        if not all(map(is_text, row)):
            raise RequestError(400, "S02", "a text contains a lone surrogate, which is not a character", field=path)
        if any(map(is_empty, row)):
            raise RequestError(400, "S02", "a text is empty", field=path)
    return rows
