"""Requests that no honest client sends, as bytes on a socket of a real service."""

import itertools
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from urllib.parse import quote

import psutil
import pytest

from tests.serving import Service, serving

MEBIBYTE = 2**20
LONG = b"x" * (10 * MEBIBYTE)
HUGE = ("9" * 19, "-" + "9" * 19, "9" * 25, "9" * 5000, "1e999", "NaN", "٣" * 12)
"""Beyond 64 bits, and what is no whole number but to some readers."""

MAY_GROW = 64 * MEBIBYTE
"""What all of these requests together may leave in the API process."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("hostile") / "data", TUNER_REQUESTS_PER_MINUTE="100000") as service:
        yield service


def connection(service: Service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ask(service: Service, pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """Status and reason of the first answer to these bytes, the rest of which are kept back once the service hangs up."""
    with connection(service) as there:
        try:
            for piece in pieces:
                there.sendall(piece)
        except OSError:
            pass
        received = b""
        try:
            while block := there.recv(65536):
                received += block
        except ConnectionError:
            pass  # it has hung up on what it had not read
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, body


def request(line: str, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join(
        [line.encode("latin-1") + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", body]
    )


def post(body: bytes, *headers: bytes, path: str = "/v1/studies") -> bytes:
    return request(f"POST {path}", b"Content-Type: application/json", *headers, body=body)


def sized(body: bytes, path: str = "/v1/studies") -> bytes:
    return post(body, b"Content-Length: %d" % len(body), path=path)


def chunked(*body: bytes) -> Iterator[bytes]:
    yield post(b"", b"Transfer-Encoding: chunked")
    yield from body


SMALL = b'{"name": "a"}'

ODD: dict[str, Callable[[], Iterable[bytes]]] = {
    "a long name in the path": lambda: [request("GET /v1/studies/" + LONG.decode())],
    "a long name in the query": lambda: [request("GET /v1/jobs?cursor=" + LONG.decode())],
    "a long header": lambda: [request("GET /v1/studies", b"X-Name: " + LONG)],
    "a flood of headers": lambda: [request("GET /v1/studies", *(b"X-%d: y" % i for i in range(200_000)))],
    "a long name in JSON": lambda: [sized(b'{"name": "' + LONG + b'"}')],
    "a long name in JSON, in chunks": lambda: chunked(b"%x\r\n" % len(LONG), LONG, b"\r\n0\r\n\r\n"),
    "a length below the body's": lambda: [post(SMALL, b"Content-Length: 5")],
    "a negative length": lambda: [post(SMALL, b"Content-Length: -1")],
    "a length that is no number": lambda: [post(SMALL, b"Content-Length: 0x0d")],
    "a length of 5,000 digits": lambda: [post(SMALL, b"Content-Length: " + b"9" * 5000)],
    "two lengths": lambda: [post(SMALL, b"Content-Length: 13", b"Content-Length: 5")],
    "a length and chunks": lambda: [post(b"0\r\n\r\n", b"Content-Length: 13", b"Transfer-Encoding: chunked")],
    "an unknown transfer encoding": lambda: [post(SMALL, b"Transfer-Encoding: gzip")],
    "a bad chunk size": lambda: chunked(b"zz\r\n"),
    "a negative chunk size": lambda: chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size of 5,000 digits": lambda: chunked(b"f" * 5000 + b"\r\n"),
    "a chunk longer than its size": lambda: chunked(b"3\r\nabcdefgh\r\n0\r\n\r\n"),
    "endless chunks": lambda: chunked(*itertools.repeat(b"10000\r\n" + b" " * 65536 + b"\r\n", 640)),
    "no HTTP": lambda: [b"\x16\x03\x01\x02\x00\x01\x00" + b"\x00" * 500],
    "a NUL in the path": lambda: [request("GET /v1/studies/a\0b")],
    "a NUL in the path, escaped": lambda: [request("GET /v1/studies/a%00b")],
    "half a character in the path": lambda: [request("GET /v1/studies/%ed%a0%80")],
    "half a character in the query": lambda: [request("GET /v1/jobs?cursor=%ed%a0%80")],
    "a NUL in a cursor": lambda: [request("GET /v1/jobs?cursor=AGE")],
    "UTF-16": lambda: [sized('{"name": "a"}'.encode("utf-16"))],
    "half a character": lambda: [sized(rb'{"name": "\ud800"}')],
    "two equal keys": lambda: [sized(b'{"name": "a", "name": "b"}')],
    "two marks of byte order": lambda: [sized(b"\xef\xbb\xbf" * 2 + SMALL)],
    "no number": lambda: [sized(b'{"name": "a", "budget": {"n_trials": NaN}}')],
    "an infinite number": lambda: [sized(b'{"name": "a", "budget": {"target": 1e999}}')],
    "an upload without a boundary": lambda: [
        request("POST /v1/datasets", b"Content-Type: multipart/form-data", b"Content-Length: 13", body=SMALL)
    ],
}


@pytest.mark.parametrize("kind", ODD)
def test_what_no_honest_client_sends_is_refused(service: Service, kind: str) -> None:
    """A 4xx with its reason, and nothing is made; the service answers the next one."""
    status, reason = ask(service, ODD[kind]())
    assert 400 <= status < 500, (status, reason[:300])
    assert reason
    assert service.get("/v1/studies")["items"] == []


def test_a_huge_integer_is_refused_wherever_one_is_asked_for(service: Service) -> None:
    """In each query parameter and each part of a path of the OpenAPI document, of a study, a job and a trial that are there."""
    job = service.post(
        "/v1/studies",
        {
            "name": "there",
            "objective": "external",
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "objectives": [{"metric": "y", "direction": "minimize"}],
        },
    )["job"]["id"]
    place = {"name": "there", "job_id": str(job), "number": "0", "kind": "history"}
    failed = []
    for path, calls in service.get("/openapi.json")["paths"].items():
        taken = [p for p in calls.get("get", {}).get("parameters", []) if p["in"] in ("path", "query")]
        for parameter, value in itertools.product(taken, HUGE):
            here = {**place, parameter["name"]: value} if parameter["in"] == "path" else place
            filled = path.format_map(defaultdict(lambda: "0", here))
            query = f"?{parameter['name']}={value}" if parameter["in"] == "query" else ""
            if path.endswith("/events") and not query:
                continue  # a stream of another study's, which does not end
            status, reason = ask(service, [request("GET " + quote(filled + query, safe="/?=-"))])
            if status >= 500 or status == 0:
                failed.append((path, parameter["name"], value[:30], status, reason[:200]))
    assert not failed


def test_a_client_that_does_not_go_on_stops_nobody(service: Service) -> None:
    """Fifty that stay within their headers, fifty within a body, and fifty that leave there: others are answered, and those that
    have left leave nothing behind."""
    with ExitStack() as kept:
        for _ in range(50):
            kept.enter_context(connection(service)).sendall(b"GET /v1/studies HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            kept.enter_context(connection(service)).sendall(post(b'{"na', b"Content-Length: 1000"))
            with connection(service) as leaving:
                leaving.sendall(post(b'{"na', b"Content-Length: 1000"))
        assert service.get("/v1/studies?limit=1") is not None
    assert service.get("/v1/studies?limit=1") is not None


def test_the_memory_stays_bounded(service: Service) -> None:
    """A hundred megabytes of long names, twenty times over, and the API process is hardly larger than after the first."""
    api = psutil.Process(service.pid_of("API"))
    kinds = ("a long name in the path", "a long header", "a long name in JSON", "endless chunks", "a flood of headers")
    for kind in kinds:
        ask(service, ODD[kind]())
    before = api.memory_info().rss
    for kind in kinds * 4:
        ask(service, ODD[kind]())
    assert api.memory_info().rss - before < MAY_GROW
