"""The OpenAPI description: what each endpoint accepts for this model, and every response that it can give.

A body that is valid by the schema of its request is answered, unless it is too large or the service is busy;
`parse_body` and `check_rows` refuse all others. The schema cannot say that a text must have no lone surrogate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from yourbert.core.tasks import Task
from yourbert.core.text import HIDDEN
from yourbert.deploy.serve.limits import Limits

VISIBLE = f"[^\\s{HIDDEN.pattern[1:]}"  # a text has at least one visible character
HOST = "the Host header names another machine"
ERRORS = {
    400: f"S02: the body is not valid, or a text has a lone surrogate; S03: {HOST}; S07: the client disconnected",
    404: "S03: the model has no such task",
    408: "S05: the body did not arrive in time",
    413: "S01: the body is too large; S04: too many texts",
    415: "S03: the body is not application/json",
    500: "S10: an internal error; the server's log has the request id",
    503: "S06: too many rows are waiting, see Retry-After; or, as plain text, too many connections are open",
}
BODILESS = {**ERRORS, 400: f"S03: {HOST}; S07: the client disconnected", 413: "S01: the body is too large"}


class Problem(BaseModel):
    code: str = Field(pattern="^S[0-9]{2}$")
    message: str
    field: str = Field(description="The field of the request at fault, or empty.")
    request_id: str


class Error(BaseModel):
    error: Problem


class Prediction(BaseModel):
    prediction: str | float = Field(description="The most probable label, or the similarity.")
    probabilities: dict[str, float] = Field({}, description="Of each label of a classification.")
    truncated: bool = Field(description="Whether a text was truncated.")


class PredictResponse(BaseModel):
    model: str
    task: str
    predictions: list[Prediction] = Field(description="One for each text, in order.")


class ExplainedWord(BaseModel):
    text: str
    number: int = Field(ge=0, le=1, description="0 for a word of the first text, 1 for the second.")
    weight: float


class ExplanationBody(BaseModel):
    prediction: str
    score: float
    baseline_scores: list[float]
    completeness_gap: float
    words: list[ExplainedWord]
    num_removed: int
    score_without_top: float
    score_without_random: float


class ExplainResponse(BaseModel):
    model: str
    task: str
    explanation: ExplanationBody


class TasksResponse(BaseModel):
    model: str
    tasks: dict[str, dict[str, Any]]


class HealthResponse(BaseModel):
    status: Literal["alive"]


class ReadyResponse(BaseModel):
    ready: bool
    model: str
    tasks: list[str]
    stale: str = Field(description="Why the model folder differs from the served model, or empty.")


def responses(success: type[BaseModel] | None, *, body: bool) -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint, as FastAPI takes them. body: whether its requests have one."""
    errors = ERRORS if body else {code: BODILESS[code] for code in (400, 408, 413, 500, 503)}
    found: dict[int | str, dict[str, Any]] = {c: {"model": Error, "description": text} for c, text in errors.items()}
    if body:
        found[503]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if success is not None:
        found[200] = {"model": success}
    return found


def request_body(field: Literal["text", "texts"], tasks: Mapping[str, Task], limits: Limits) -> dict[str, Any]:
    """`openapi_extra` of an endpoint: a task may be omitted if the model has one; pairs and single texts are apart."""
    kinds = [_body(field, pair, tasks, limits) for pair in sorted({task.pair for task in tasks.values()})]
    schema = kinds[0] if len(kinds) == 1 else {"oneOf": kinds}
    about = f"At most {limits.max_body_bytes} bytes of UTF-8; every field once."
    return {
        "requestBody": {"required": True, "description": about, "content": {"application/json": {"schema": schema}}}
    }


def _body(field: str, pair: bool, tasks: Mapping[str, Task], limits: Limits) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string", "pattern": VISIBLE, "examples": ["a warm and funny film"]}
    row = {"type": "array", "items": text, "minItems": 2, "maxItems": 2} if pair else text
    many = {"type": "array", "items": row, "minItems": 1, "maxItems": limits.max_texts}
    names: list[str | None] = [name for name, task in tasks.items() if task.pair == pair]
    return {
        "type": "object",
        "properties": {
            "task": {"enum": [*names, None] if len(tasks) == 1 else names},
            field: many if field == "texts" else row,
        },
        "required": [field] if len(tasks) == 1 else ["task", field],
        "additionalProperties": False,
    }
