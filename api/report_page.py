"""A report as one page that needs nothing but itself."""

import json
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from api.pictures import Pictures
from api.report_answers import ReportAnswer
from tuner import __version__


def render(report: ReportAnswer, pictures: Pictures) -> str:
    """HTML without scripts; whatever names are in it are text."""
    best, versions, spec = report.best, report.reproduce.versions, report.reproduce.spec
    point = {} if best is None else best.model_dump()["hyperparameters"]
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(
            report=report,
            pictures=pictures,
            hyperparameters={name: _plain(value) for name, value in point.items() if value is not None},
            versions=None if versions is None else versions.model_dump(),
            spec=None if spec is None else json.dumps(spec.model_dump(mode="json"), indent=2),
            next_space=None
            if report.diagnosis is None
            else json.dumps(report.diagnosis.next_search_space.model_dump(mode="json"), indent=2),
            version=__version__,
        )
    )


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("api"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
