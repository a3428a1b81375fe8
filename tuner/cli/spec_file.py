"""A spec as it was written; whether it is one is for the service to say."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import InvalidInput


def read_spec(file: str) -> dict[str, Any]:
    """The JSON object in `file`; `-` is standard input. Raises InvalidInput where there is none."""
    try:
        body = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"a spec must be a readable file, but {file}: {error.strerror}") from error
    except ValueError as error:  # also of bytes that are no UTF-8
        raise InvalidInput(f"a spec must be JSON, but {file}: {error}") from error
    if not isinstance(body, Mapping):
        raise InvalidInput(f"a spec must be a JSON object, but {file} holds {type(body).__name__}")
    return dict(body)
