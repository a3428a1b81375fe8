"""Hooks of Schemathesis: three of four requests ask for things that are there, by the names in `TUNER_KNOWN_NAMES` (JSON), and no
two have the same Idempotency-Key.

Names that Schemathesis makes up are almost all of nothing, and a route that answers 404 shows little of itself.
"""

import hashlib
import itertools
import json
import os
import re
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.generation.meta import TestPhase

from api.repeats import HEADER, PATTERN

KNOWN: dict[str, dict[str, list[str]]] = json.loads(os.environ.get("TUNER_KNOWN_NAMES", "{}"))

_number = itertools.count()


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """Of drawn requests: the same for the same request, whatever was asked before."""
    if not path_parameters or path_parameters is NOT_SET or context.operation is None:
        return path_parameters
    known = _names(context.operation)
    return {name: _known(value, known.get(name, [])) for name, value in path_parameters.items()}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: Any) -> None:
    """The document's example of a name becomes one of a thing that is there, but in chains, which have made what they ask for.
    Each Idempotency-Key becomes a new one: else all but the first request would be refused for it, unread."""
    given = case.headers.get(HEADER) if case.headers else None
    if isinstance(given, str) and re.fullmatch(PATTERN, given):
        case.headers[HEADER] = f"contract-{next(_number)}"
    if case.meta is not None and case.meta.phase.name in (TestPhase.EXAMPLES, TestPhase.COVERAGE):
        known = _names(case.operation)
        for parameter in case.operation.path_parameters:
            names = known.get(parameter.name, [])
            if names and case.path_parameters.get(parameter.name) in _examples(parameter):
                case.path_parameters[parameter.name] = names[0]


def _names(operation: Any) -> dict[str, list[str]]:
    asked = (operation.path, f"{operation.method.upper()} {operation.path}")
    return next((names for beginning, names in KNOWN.items() if any(one.startswith(beginning) for one in asked)), {})


def _examples(parameter: Any) -> list[Any]:
    examples: list[Any] = parameter.definition["schema"].get("examples", [])
    return examples


def _known(value: Any, names: list[str]) -> Any:
    if not names or not isinstance(value, str):
        return value
    drawn = int.from_bytes(hashlib.sha256(value.encode("utf-8", "backslashreplace")).digest()[:4])
    return value if drawn % 4 == 0 else names[drawn // 4 % len(names)]
