"""The typed client, blocking and for asyncio, against a real service; where a network must fail, by way of a proxy that does."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx
import pytest
from httpx_sse import ServerSentEvent

from api.app import close, create_app
from tests.serving import TINY, Service, serving
from tuner.client import AsyncClient, Client, NoAnswer, Refused, flow, following
from tuner.client.answers import Event, StudyStatus
from tuner.client.flow import Next, Open, Pause
from tuner.client.method import ItemsMethod, Method
from tuner.settings import Settings

STREAMED = {("GET", "/v1/studies/{name}/events"): "events"}
"""What is no single request."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With the study `tiny`, which the blocking client has posted and waited for."""
    with serving(tmp_path_factory.mktemp("client") / "data") as service:
        seen: list[StudyStatus] = []
        with Client.over_http(service.url) as client:
            assert client.create_study(TINY).study.state == "queued"
            ended = client.wait("tiny", seen.append)
        assert (ended.state, ended.trials.total) == ("succeeded", 4)
        assert (seen[-1], seen[0].state in ("queued", "running")) == (ended, True)
        yield service


Fault = Literal["lost", 429, 503]


@contextmanager
def shaky(url: str, *faults: Fault) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """A proxy before `url`: its address, and the requests it had. For its first requests it is busy, or loses the answer."""
    left, had = list(faults), list[tuple[str, str, str | None]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            had.append((self.command, self.path, self.headers["Idempotency-Key"]))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = left.pop(0) if left else None
            if isinstance(fault, int):
                self.send_response(fault)
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            headers = {name: self.headers[name] for name in ("Content-Type", "Idempotency-Key") if self.headers[name]}
            answer = httpx.request(self.command, f"{url}{self.path}", content=body, headers=headers)
            if fault == "lost":
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_PATCH = do_DELETE = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", had
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_call_of_the_document_has_its_method(settings: Settings) -> None:
    """None of the service's is missing in the client, and the client knows none that the service does not; what a path names is
    an argument of that name."""
    app = create_app(settings)
    documented = {(verb.upper(), path) for path, verbs in app.openapi()["paths"].items() for verb in verbs}
    close(app)
    attributes = (inspect.getattr_static(Client, name) for name in dir(Client))
    methods = [m for m in attributes if isinstance(m, Method | ItemsMethod)]
    known = {method.operation for method in methods if method.operation is not None}
    assert all(isinstance(inspect.getattr_static(Client, name), ItemsMethod) for name in STREAMED.values())
    assert documented - known - set(STREAMED) == set()
    assert known | set(STREAMED) <= documented


def test_both_clients_answer_the_same(service: Service) -> None:
    """A value, the items of several pages, a file and a refusal."""

    async def awaited() -> list[Any]:
        async with AsyncClient.over_http(service.url) as client:
            with pytest.raises(Refused, match="no study is named 'nowhere'"):
                await client.study("nowhere")
            return [
                await client.study("tiny"),
                [trial async for trial in client.trials("tiny", sort="-value")],
                [entry async for entry in client.job_log(1)],
                await client.export("tiny", "torch"),
                await client.wait("tiny"),
            ]

    with Client.over_http(service.url) as client:
        with pytest.raises(Refused, match="no study is named 'nowhere'"):
            client.study("nowhere")
        assert asyncio.run(awaited()) == [
            client.study("tiny"),
            list(client.trials("tiny", sort="-value")),
            list(client.job_log(1)),
            client.export("tiny", "torch"),
            client.wait("tiny"),
        ]


def test_pages_are_asked_for_as_they_are_needed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is whole over many pages, and who stops early has not asked for the rest."""
    with shaky(service.url) as (url, had), Client.over_http(url) as client:
        whole = [entry.id for entry in client.job_log(1)]
        had.clear()
        monkeypatch.setattr(flow, "PAGE", 3)
        entries = client.job_log(1)
        first = [next(entries).id for _ in range(4)]
        assert len(had) == 2
        assert [*first, *(entry.id for entry in entries)] == whole


def test_a_lost_answer_is_asked_for_again_where_that_is_safe(service: Service) -> None:
    """A GET, and a POST under one key, which the service carries out once; not a PATCH or DELETE, which may be somebody
    else's by then. What is busy for a moment is asked again whatever it is, if nothing was done."""
    with shaky(service.url, "lost", "lost") as (url, had), Client.over_http(url) as client:
        posted = client.create_study({**TINY, "name": "once"})
        assert [(verb, path) for verb, path, _ in had] == 3 * [("POST", "/v1/studies")]
        assert len({key for _, _, key in had}) == 1
        assert client.wait("once").job == client.job(posted.job.id)
    with shaky(service.url, "lost", 503, 429) as (url, _), Client.over_http(url) as client:
        assert client.study("once").name == "once"
    with shaky(service.url, 429, 503) as (url, had), Client.over_http(url) as client:
        with pytest.raises(Refused, match="503"):
            client.delete("once")
        assert len(had) == 2
    with shaky(service.url, "lost") as (url, had), Client.over_http(url) as client:
        with pytest.raises(NoAnswer):
            client.delete("once")
        assert len(had) == 1
        with pytest.raises(Refused, match="no study is named 'once'"):
            client.study("once")


def test_attempts_come_to_an_end(service: Service) -> None:
    """After three repetitions the caller hears what it was; of a place where nobody is, too."""
    with shaky(service.url, 503, 503, 503, 503) as (url, had), Client.over_http(url) as client:
        with pytest.raises(Refused) as refused:
            client.study("tiny")
        assert (refused.value.status, len(had)) == (503, 4)
        gone = url
    with Client.over_http(gone) as client, pytest.raises(NoAnswer, match=f"no service answers at {gone}"):
        client.study("tiny")


def test_a_followed_study_goes_on_where_its_stream_broke(service: Service) -> None:
    """With the API killed in the midst of it, every event comes, once and in order; both clients see the same, and waiting
    outlasts it, too."""
    seen, awaited, begun = list[Event](), list[Event](), threading.Event()

    async def follow() -> None:
        async with AsyncClient.over_http(service.url) as client, aclosing(client.events("followed", after=0)) as events:
            async for event in events:
                awaited.append(event)
                begun.set()
                if ended(event):
                    return

    with Client.over_http(service.url) as client:
        client.create_study({**TINY, "name": "followed", "budget": {"n_trials": 8}})
        thread = threading.Thread(target=lambda: asyncio.run(follow()))
        thread.start()
        assert begun.wait(20)
        os.kill(service.pid_of("API"), signal.SIGKILL)
        assert client.wait("followed").state == "succeeded"
        thread.join(20)
        with closing(client.events("followed", after=0)) as events:
            for event in events:
                seen.append(event)
                if ended(event):
                    break
    assert awaited == seen
    assert [event.id for event in seen] == sorted({event.id for event in seen})
    assert sum(event.kind == "trial_finished" for event in seen) == 8


def ended(event: Event) -> bool:
    return event.kind == "job" and event.data["state"] == "succeeded"


def test_a_stream_that_breaks_before_its_first_event_loses_none() -> None:
    """It goes on from where the service said that it begins."""
    steps = following.events("a", None)
    opening = next(steps)
    assert isinstance(opening, Open)
    assert opening.ask.more["params"] == {}
    assert isinstance(steps.send(httpx.Response(200)), Next)
    assert isinstance(steps.send(ServerSentEvent(id="7")), Next)
    assert isinstance(steps.send(httpx.ReadError("reset by peer")), Pause)
    opening = steps.send(None)
    assert isinstance(opening, Open)
    assert opening.ask.more["params"] == {"after": 7}
