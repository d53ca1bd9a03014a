"""A real server that speaks S3, on loopback, which goes away, breaks, hangs or refuses, and comes back with what it had."""

import io
import logging
import threading
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Literal

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

Mood = Literal["well", "broken", "denied", "hangs"]
Answer = Callable[..., Any]
SAID = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
ANSWERS = {
    "broken": ("500 Internal Server Error", SAID.format("InternalError", "We encountered an internal error.")),
    "denied": (
        "403 Forbidden",
        SAID.format("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist."),
    ),
}
HANGS_S = 60


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None: ...


def unheard(status: str, headers: object, error: object = None) -> None: ...


class Store:
    """name: of its bucket. mood: how it answers. requests: method and path of each.

    fails: for which of them it breaks, "GET segments"; done: it does first what it is asked, and only the answer is lost.
    """

    name = "archives"

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.mood: Mood = "well"
        self.requests: list[str] = []
        self.fails, self.done = "", False
        self._goes_on = threading.Event()
        moto: Any = import_module("moto.moto_server.werkzeug_app")  # it has no types
        self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._port = 0
        self._server: BaseWSGIServer | None = None
        self.come_back()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """boto3, which has no types."""
        about = {"endpoint_url": self.address, "aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return import_module("boto3").client("s3", region_name="us-east-1", **about)

    def go_away(self) -> None:
        """Connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def come_back(self) -> None:
        """With what it had, as if nothing had been."""
        self.mood, self.fails, self.done = "well", "", False
        self._goes_on.set()
        if self._server is None:
            self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True, request_handler=Quiet)
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def hang(self) -> None:
        """Take requests, and answer none until it comes back."""
        self._goes_on.clear()
        self.mood = "hangs"

    def _answer(self, environ: dict[str, Any], start: Answer) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.requests.append(request)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        if self.mood == "hangs":
            self._goes_on.wait(HANGS_S)
        if self.fails and all(part in request for part in self.fails.split()):
            self.mood = "broken"
            if self.done:
                list(self._app(environ, unheard))
        if self.mood in ANSWERS:
            status, said = ANSWERS[self.mood]
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(said)))])
            return [said.encode()]
        answer: Iterable[bytes] = self._app(environ, start)
        return answer
