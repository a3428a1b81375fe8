"""A hook of Schemathesis: three of four requests ask for things that are there, by the names in `TUNER_KNOWN_NAMES` (JSON).

Names that Schemathesis makes up are almost all of nothing, and a route that answers 404 shows little of itself.
"""

import hashlib
import json
import os
from typing import Any

import schemathesis
from schemathesis.core import NOT_SET

KNOWN: dict[str, dict[str, list[str]]] = json.loads(os.environ.get("TUNER_KNOWN_NAMES", "{}"))


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """The same for the same request, whatever was asked before."""
    if not path_parameters or path_parameters is NOT_SET or context.operation is None:
        return path_parameters
    known = next((names for prefix, names in KNOWN.items() if context.operation.path.startswith(prefix)), {})
    return {name: _known(value, known.get(name, [])) for name, value in path_parameters.items()}


def _known(value: Any, names: list[str]) -> Any:
    if not names or not isinstance(value, str):
        return value
    drawn = int.from_bytes(hashlib.sha256(value.encode("utf-8", "backslashreplace")).digest()[:4])
    return value if drawn % 4 == 0 else names[drawn // 4 % len(names)]
