"""A study's report: as JSON, or as a page for people."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import Reading, StudyName, TheSettings, find_study
from api.headers import Page
from api.pictures import draw
from api.problems import described
from api.report import read_subject, report_on
from api.report_answers import ReportAnswer
from api.report_page import render
from api.routes.analysis import Analyses, importances_of

router = APIRouter(prefix="/v1/studies/{name}", tags=["studies"])

HTML: dict[str, Any] = {"text/html": {"schema": {"type": "string", "description": "a page that needs nothing else"}}}


@router.get(
    "/report",
    response_model=ReportAnswer,
    responses={200: {"content": HTML}, **described(404)},
    summary="What was searched, what it cost, and what it has bought",
)
def get_report(
    name: StudyName, request: Request, connection: Reading, settings: TheSettings, analyses: Analyses
) -> Any:
    """At any time of a study's life: what is not known yet is null, or `unknown`. With `Accept: text/html` one page with
    pictures, which can be saved and sent."""
    study = find_study(connection, name)
    subject = read_subject(connection, study, settings.datasets_dir)
    report = report_on(connection, subject, importances_of(connection, study, analyses))
    headers = {"Vary": "Accept"}
    if not _prefers_html(request.headers.get("accept", "")):
        return Response(report.model_dump_json(), media_type="application/json", headers=headers)
    page = Page(render(report, draw(connection, subject, report)))
    page.headers.update(headers)
    return page


def _prefers_html(accept: str) -> bool:
    """Whether HTML is asked for, and not JSON before it."""
    asked = [part.partition(";")[0].strip() for part in accept.split(",")]
    wanted = [kind for kind in asked if kind in ("text/html", "application/json")]
    return wanted[:1] == ["text/html"]
