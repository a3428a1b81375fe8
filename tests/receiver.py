"""A receiver of webhooks: a real HTTP server, with the scheme's own library as its judge of signatures."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Answers as told, 200 when nothing is left to answer, and keeps what came; `hold` makes it slow."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.got = list(answers), list[tuple[dict[str, str], str]]()
        self.go_on = threading.Event()
        self.go_on.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.got.append((dict(self.headers.items()), body))
                receiver.go_on.wait(30)
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def messages(self, secret: str = SECRET) -> list[tuple[str, Any]]:
        """Id and content of what came, each with a valid signature."""
        return [(headers["webhook-id"], Webhook(secret).verify(body, headers)) for headers, body in self.got]


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(*answers)
    threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.go_on.set()
        receiver.server.shutdown()
        receiver.server.server_close()
