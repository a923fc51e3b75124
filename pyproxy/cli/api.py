"""
A client of the running program's admin API, for the verbs; where it listens and the token come from the file.

Must not know what is asked. Everything that goes wrong is an ``ApiError``, whose text is the line for the user.
"""

import http.client
import json
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pyproxy.control.settings import AdminSettings
from pyproxy.errors import PyproxyError

TIMEOUT = 10.0

#: What connecting to "every address" means.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ApiError(PyproxyError):
    """
    A question that got no good answer; ``is_usage`` says that the question itself was wrong.

    ``is_answer`` says that the program did answer.
    """

    def __init__(self, text: str, *, is_usage: bool = False, is_answer: bool = False) -> None:
        super().__init__(text)
        self.is_usage = is_usage
        self.is_answer = is_answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AdminApi:
    """The admin API at the address of ``settings``; each question is a connection of its own."""

    def __init__(self, settings: AdminSettings, timeout: float = TIMEOUT) -> None:
        self._settings = settings
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<AdminApi {self._settings.address}>"

    def ask(self, method: str, path: str, content: Any = None, *, patience: float = 0.0) -> Any:
        """
        Make a request, with ``content`` as JSON if there is any, and return the JSON of a good answer.

        ``patience`` is how many seconds the program may take on purpose.
        """
        status, body = self._exchange(method, path, content, self._timeout + patience)
        try:
            answer = json.loads(body) if body or status != HTTPStatus.NO_CONTENT else None
        except ValueError:
            raise self._stranger() from None
        if status < 400:
            return answer
        raise self._refused(status, answer)

    def _exchange(self, method: str, path: str, content: Any, timeout: float) -> tuple[int, bytes]:
        settings, address = self._settings, self._settings.address
        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token is not None else {}
        body = None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content).encode()
        connection = self._connection(timeout)
        try:
            connection.request(method, path, body, {name: value.encode() for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        except (ConnectionRefusedError, FileNotFoundError):
            raise ApiError(f"pyproxy is not running: nothing answers on {address} (admin.bind)") from None
        except PermissionError:
            raise ApiError(f"no permission to use {address} (admin.bind)") from None
        except TimeoutError:
            raise ApiError(f"no answer from {address} within {timeout:g} s") from None
        except http.client.HTTPException:
            raise self._stranger() from None
        except OSError as error:
            raise ApiError(f"can't ask {address}: {error.strerror or error}") from error
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        settings = self._settings
        if settings.path:
            return _UnixConnection(settings.path, timeout)
        if not settings.port:
            raise ApiError("admin.bind has port 0, so where the program listens can't be known")
        host = _LOOPBACK.get(settings.host, settings.host)
        return http.client.HTTPConnection(host, settings.port, timeout=timeout)

    def _stranger(self) -> ApiError:
        return ApiError(f"what answers on {self._settings.address} (admin.bind) is not pyproxy's admin API")

    def _refused(self, status: int, answer: Any) -> ApiError:
        if status == HTTPStatus.UNAUTHORIZED:
            if self._settings.token is None:
                return ApiError(
                    "the running program wants a token, and the file has none (admin.token)", is_answer=True
                )
            problem = "the running program has another token than the file (admin.token, admin.token_file)"
            return ApiError(problem, is_answer=True)
        text, detail = _error_of(answer, f"{self._settings.address} answered {status}")
        return ApiError("\n".join([text, *(f"  {line}" for line in detail)]), is_usage=status == 422, is_answer=True)


def _error_of(answer: Any, default: str) -> tuple[str, Sequence[Any]]:
    if not isinstance(answer, dict):
        return default, ()
    detail = answer.get("detail", [])
    return str(answer.get("error", default)), detail if isinstance(detail, list) else []
