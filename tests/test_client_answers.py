"""The client's answers beside those of the OpenAPI document, of which they are a second description."""

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter

from tuner.client import Client
from tuner.client.answers import StudyStatus
from tuner.client.flow import read
from tuner.client.method import ItemsMethod, Method

Schema = dict[str, Any]


def methods() -> dict[str, tuple[tuple[str, str], type[BaseModel], bool]]:
    """By name: the operation, the class of the answer, and whether it is of a page's items."""
    found = {}
    for name in dir(Client):
        method = getattr(Client, name)
        if isinstance(method, Method | ItemsMethod) and method.operation is not None:
            [answer] = typing.get_args(typing.get_type_hints(inspect.unwrap(method._begin))["return"]) or [None]
            if isinstance(answer, type) and issubclass(answer, BaseModel):
                found[name] = method.operation, answer, isinstance(method, ItemsMethod)
    return found


METHODS = methods()


def grown(value: Any) -> Any:
    """With a field that this client does not know in each object."""
    if isinstance(value, list):
        return [grown(item) for item in value]
    return {**{key: grown(item) for key, item in value.items()}, "newer": 1} if isinstance(value, dict) else value


def branches(schema: Schema, root: Schema) -> Iterator[Schema]:
    """Its alternatives, without references."""
    if "$ref" in schema:
        inner: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            inner = inner[step]
        yield from branches(inner, root)
    elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
        for alternative in alternatives:
            yield from branches(alternative, root)
    else:
        yield schema


def kind(schema: Schema) -> str:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return str(schema.get("type") or ("string" if values and all(isinstance(v, str) for v in values) else "any"))


def unread(mine: Schema, mine_root: Schema, theirs: Schema, root: Schema, at: str = "") -> Iterator[str]:
    """What the service may answer there and the client cannot read."""
    known = list(branches(mine, mine_root))
    for sent in branches(theirs, root):
        fitting = [
            own for own in known if kind(own) in (kind(sent), "any") or (kind(own), kind(sent)) == ("number", "integer")
        ]
        if not fitting:
            yield f"{at}: may be {kind(sent)}, the client reads {[kind(own) for own in known]}"
        faults = [list(_within(own, mine_root, sent, root, at)) for own in fitting]
        if faults and all(faults):
            yield from min(faults, key=len)


def _within(own: Schema, mine_root: Schema, sent: Schema, root: Schema, at: str) -> Iterator[str]:
    there = sent.get("properties", {})
    for field, schema in own.get("properties", {}).items():
        if field not in there:
            if there or field in own.get("required", ()):
                yield f"{at}.{field}: the service has no such field"
        else:
            yield from unread(schema, mine_root, there[field], root, f"{at}.{field}")
    if "items" in own and isinstance(sent.get("items"), dict):
        yield from unread(own["items"], mine_root, sent["items"], root, f"{at}[]")


def test_the_client_reads_what_the_service_answers(api: httpx.Client) -> None:
    """Every field of each method's answer is in the document, and of no type that the client cannot read."""
    document = api.get("/openapi.json").json()
    faults = {}
    for name, ((verb, path), answer, of_items) in METHODS.items():
        answers = document["paths"][path][verb.lower()]["responses"]
        success = answers[min(status for status in answers if status.startswith("2"))]
        schema = success["content"]["application/json"]["schema"]
        if of_items:
            [page] = branches(schema, document)
            schema = page["properties"]["items"]["items"]
        mine = TypeAdapter(answer).json_schema(mode="validation")
        faults[name] = list(unread(mine, mine, schema, document))
    assert len(faults) > 30
    assert {name: found for name, found in faults.items() if found} == {}


def test_what_a_newer_service_answers_more_is_passed_over(api: httpx.Client) -> None:
    """A field that is not known here, in the answer or anywhere in it, the study's spec included."""
    api.post("/v1/studies", json={"name": "a"}).raise_for_status()
    answer = api.get("/v1/studies/a")
    newer = httpx.Response(200, json=grown(answer.json()), request=answer.request)
    assert "newer" in newer.json()["spec"]["budget"]
    assert read(newer, StudyStatus) == read(answer, StudyStatus)
