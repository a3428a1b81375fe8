"""What is sent: specs, or plain mappings, which go as they are, for the service to judge."""

from collections.abc import Mapping
from typing import Any

from tuner.specs.spec import Spec
from tuner.specs.study import StudySpec

Body = Mapping[str, Any]


def body(spec: Spec | Body) -> Body:
    """A study says no more than its user did: what was left to the data is the service's to fit."""
    if isinstance(spec, StudySpec):
        return spec.said()
    return spec.model_dump(mode="json") if isinstance(spec, Spec) else spec


def given(**query: Any) -> dict[str, Any]:
    """Without what was left out."""
    return {name: value for name, value in query.items() if value is not None}
