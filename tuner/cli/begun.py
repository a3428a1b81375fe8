"""A study that is to run: posted now, or found as it was posted before."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tuner.client import Client, Refused
from tuner.client.answers import StudyStatus
from tuner.specs.study import StudySpec

QUICKSTART = StudySpec(name="mnist-quick")


def begin(client: Client, spec: Mapping[str, Any]) -> StudyStatus:
    """The status of the study of this spec: it was posted, or it was there, and goes on if it was paused.

    Raises Refused where the service does not take the spec, or the name is another spec's.
    """
    try:
        return client.create_study(spec).study
    except Refused as refused:
        if refused.status != HTTPStatus.CONFLICT:
            raise
        known = client.study(spec["name"])
        if not isinstance(known.spec, StudySpec):
            raise
        if known.spec != StudySpec.model_validate(spec).fitted_like(known.spec):
            raise
    return client.resume(known.name) if known.state == "paused" else known
