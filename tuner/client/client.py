"""The REST contract as methods: specs in, answers out, `Refused` or `NoAnswer` otherwise."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from tuner.client.answers import (
    Answer,
    AuditEntry,
    Best,
    Completed,
    CreatedToken,
    Decision,
    Delivery,
    Front,
    Importances,
    Job,
    LogEntry,
    Model,
    Page,
    Predictions,
    Schedule,
    ScheduleRun,
    ShouldStop,
    StudyPosted,
    StudyStatus,
    StudySummary,
    Suggested,
    Token,
    Trial,
    TrialWithCurves,
)
from tuner.client.in_process import InProcessTransport, load_app
from tuner.client.refused import NoAnswer, refusal
from tuner.settings import Settings
from tuner.specs.job import PromoteWork, SearchWork
from tuner.specs.study import StudySpec
from tuner.specs.telling import CompleteCall, Measurement, SuggestCall

A = TypeVar("A")
T = TypeVar("T", bound=Answer)

TIMEOUT_SECONDS = 30.0
PAGE = 200


class Client:
    """Talks to one service until it is closed. `http` carries the address and the token."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def over_http(cls, url: str, token: str | None = None) -> Self:
        return cls(httpx.Client(base_url=url, headers=_bearer(token), timeout=TIMEOUT_SECONDS))

    @classmethod
    def in_process(cls, settings: Settings) -> Self:
        """The app of these settings in this process; who can open its database is its operator, and needs no token."""
        token = secrets.token_urlsafe()  # known to this process alone
        listens_nowhere = settings.model_copy(update={"host": "127.0.0.1", "token_file": None})
        transport = InProcessTransport(load_app(listens_nowhere, token))
        return cls(httpx.Client(transport=transport, base_url="http://127.0.0.1", headers=_bearer(token)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def is_ready(self) -> bool:
        """Whether the database answers and a runner is alive."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def create_study(self, spec: StudySpec | Mapping[str, Any]) -> StudyPosted:
        """A mapping is sent as it is, for the service to judge."""
        body = spec.model_dump(mode="json") if isinstance(spec, StudySpec) else spec
        return self._call(StudyPosted, "POST", "/v1/studies", json=body)

    def studies(self, state: str | None = None) -> Iterator[StudySummary]:
        return self._pages(StudySummary, "/v1/studies", state=state)

    def study(self, name: str) -> StudyStatus:
        return self._call(StudyStatus, "GET", _study(name))

    def pause(self, name: str) -> StudyStatus:
        return self._call(StudyStatus, "POST", f"{_study(name)}/pause")

    def resume(self, name: str) -> StudyStatus:
        return self._call(StudyStatus, "POST", f"{_study(name)}/resume")

    def cancel(self, name: str) -> StudyStatus:
        return self._call(StudyStatus, "POST", f"{_study(name)}/cancel")

    def trials(self, name: str, state: str | None = None, sort: str = "number") -> Iterator[Trial]:
        return self._pages(Trial, f"{_study(name)}/trials", state=state, sort=sort)

    def trial(self, name: str, number: int) -> TrialWithCurves:
        return self._call(TrialWithCurves, "GET", f"{_study(name)}/trials/{number}")

    def enqueue_trial(self, name: str, hyperparameters: Mapping[str, Any]) -> Trial:
        """What is left out is as the study's space fixes it, or else as in the default configuration."""
        return self._call(Trial, "POST", f"{_study(name)}/trials", json={"hyperparameters": hyperparameters})

    def void_trial(self, name: str, number: int, reason: str | None = None) -> Trial:
        return self._call(Trial, "POST", f"{_study(name)}/trials/{number}/void", json={"reason": reason})

    def restore_trial(self, name: str, number: int) -> Trial:
        """It is void no more."""
        return self._call(Trial, "DELETE", f"{_study(name)}/trials/{number}/void")

    def queue_job(self, name: str, work: SearchWork | PromoteWork) -> Job:
        """Further work on the study."""
        return self._call(Job, "POST", f"{_study(name)}/jobs", json=work.model_dump(mode="json"))

    def best(self, name: str, k: int = 5, stage: str | None = None) -> Best:
        """Without `stage`, of the furthest stage that the study has reached."""
        return self._call(Best, "GET", f"{_study(name)}/best", params=_given(k=k, stage=stage))

    def export(self, name: str, form: str, rank: int = 1, stage: str | None = None) -> str:
        """The best configurations as `yaml`, or that of the rank as a `torch` or `keras` script."""
        params = _given(format=form, rank=rank, stage=stage)
        return self._send("GET", f"{_study(name)}/best", params=params).text

    def importances(self, name: str) -> Importances:
        return self._call(Importances, "GET", f"{_study(name)}/importances")

    def pareto(self, name: str, limit: int = 100) -> Front:
        return self._call(Front, "GET", f"{_study(name)}/pareto", params={"limit": limit})

    def delete(self, name: str) -> None:
        """The study can be restored until it is purged."""
        self._send("DELETE", _study(name))

    def restore(self, name: str) -> StudyStatus:
        return self._call(StudyStatus, "POST", f"{_study(name)}/restore")

    def purge(self, name: str) -> None:
        """All that was deleted under this name is gone for good."""
        self._send("POST", f"{_study(name)}/purge")

    def deliveries(self, name: str) -> Iterator[Delivery]:
        """The study's webhooks, the newest first."""
        return self._pages(Delivery, f"{_study(name)}/deliveries")

    def send_again(self, name: str, delivery_id: str) -> Delivery:
        path = f"{_study(name)}/deliveries/{quote(delivery_id, safe='')}/send-again"
        return self._call(Delivery, "POST", path)

    def suggest(self, name: str, client_id: str, count: int = 1) -> Suggested:
        """Trials of an outside study to evaluate; first those that this `client_id` has already."""
        body = SuggestCall(client_id=client_id, count=count).model_dump()
        return self._call(Suggested, "POST", f"{_study(name)}/suggest", json=body)

    def measure(self, name: str, number: int, step: int, value: float) -> bool:
        """Report an intermediate value; answers whether to stop the trial here."""
        body = Measurement(step=step, value=value).model_dump()
        return self._call(ShouldStop, "POST", f"{_study(name)}/trials/{number}/measure", json=body).should_stop

    def should_stop(self, name: str, number: int) -> bool:
        return self._call(ShouldStop, "GET", f"{_study(name)}/trials/{number}/should-stop").should_stop

    def complete(self, name: str, number: int, how: CompleteCall) -> Completed:
        """Tell how a trial ended."""
        body = how.model_dump(exclude_defaults=True)
        return self._call(Completed, "POST", f"{_study(name)}/trials/{number}/complete", json=body)

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        return self._pages(Job, "/v1/jobs", state=state)

    def job(self, job_id: str) -> Job:
        return self._call(Job, "GET", f"/v1/jobs/{quote(job_id, safe='')}")

    def cancel_job(self, job_id: str) -> Job:
        return self._call(Job, "POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel")

    def retry_job(self, job_id: str) -> Job:
        return self._call(Job, "POST", f"/v1/jobs/{quote(job_id, safe='')}/retry")

    def set_priority(self, job_id: str, priority: int) -> Job:
        return self._call(Job, "PATCH", f"/v1/jobs/{quote(job_id, safe='')}", json={"priority": priority})

    def job_log(self, job_id: str) -> Iterator[LogEntry]:
        """The oldest entry first."""
        return self._pages(LogEntry, f"/v1/jobs/{quote(job_id, safe='')}/log")

    def create_schedule(self, spec: Mapping[str, Any]) -> Schedule:
        return self._call(Schedule, "POST", "/v1/schedules", json=spec)

    def schedules(self) -> Iterator[Schedule]:
        return self._pages(Schedule, "/v1/schedules")

    def schedule(self, name: str) -> Schedule:
        return self._call(Schedule, "GET", _schedule(name))

    def edit_schedule(self, name: str, **changes: Any) -> Schedule:
        """A field that is not named stays as it is."""
        return self._call(Schedule, "PATCH", _schedule(name), json=changes)

    def delete_schedule(self, name: str) -> None:
        self._send("DELETE", _schedule(name))

    def run_schedule(self, name: str) -> ScheduleRun:
        return self._call(ScheduleRun, "POST", f"{_schedule(name)}/run")

    def schedule_runs(self, name: str) -> Iterator[ScheduleRun]:
        """The newest first."""
        return self._pages(ScheduleRun, f"{_schedule(name)}/runs")

    def champions(self, name: str) -> Iterator[Decision]:
        """What every challenge of the schedule came to, the newest first."""
        return self._pages(Decision, f"{_schedule(name)}/champions")

    def models(self) -> Iterator[Model]:
        return self._pages(Model, "/v1/models")

    def model(self, model_id: str) -> Model:
        return self._call(Model, "GET", f"/v1/models/{quote(model_id, safe='')}")

    def download(self, model_id: str, to: Path) -> None:
        """Write the model's zip archive (weights, configuration, card) to the file `to`."""
        to.write_bytes(self._send("GET", f"/v1/models/{quote(model_id, safe='')}/download").content)

    def predict(self, model_id: str, png: bytes) -> Predictions:
        path, headers = f"/v1/models/{quote(model_id, safe='')}/predict", {"Content-Type": "image/png"}
        return self._call(Predictions, "POST", path, content=png, headers=headers)

    def create_token(self, name: str, role: str, expires_days: float | None = None) -> CreatedToken:
        """The answer's `token` is the secret; nobody can ask for it again."""
        body = {"name": name, "role": role, "expires_days": expires_days}
        return self._call(CreatedToken, "POST", "/v1/tokens", json=body)

    def tokens(self) -> Iterator[Token]:
        return self._pages(Token, "/v1/tokens")

    def revoke_token(self, name: str) -> None:
        self._send("DELETE", f"/v1/tokens/{quote(name, safe='')}")

    def audit(self, who: str | None = None, path: str | None = None) -> Iterator[AuditEntry]:
        """The newest first; `path` is how the address begins."""
        return self._pages(AuditEntry, "/v1/audit", who=who, path=path)

    def _pages(self, item: type[T], path: str, /, **query: str | None) -> Iterator[T]:
        """Every item, a page at a time as they are asked for."""
        page_type: TypeAdapter[Page[T]] = TypeAdapter(Page[item])  # type: ignore[valid-type]
        params: dict[str, Any] = _given(limit=PAGE, **query)
        while True:
            page = self._read(page_type, self._send("GET", path, params=params))
            yield from page.items
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def _call(self, answer: type[T], method: str, path: str, **request: Any) -> T:
        return self._read(TypeAdapter(answer), self._send(method, path, **request))

    def _read(self, answer: TypeAdapter[A], response: httpx.Response) -> A:
        try:
            return answer.validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole of it"
            raise NoAnswer(
                f"no service of this version answers at {self.url}: {response.request.url.path}, {where}: {first['msg']}"
            ) from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise NoAnswer(f"no service answers at {self.url}: {error}") from error
        if not response.is_success:
            raise refusal(response)
        return response


def _study(name: str) -> str:
    return f"/v1/studies/{quote(name, safe='@')}"


def _schedule(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _given(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
