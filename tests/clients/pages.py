"""The pages of a site, for browser tests: an HTTP server on its own port, so of another origin than the collector."""

from __future__ import annotations

import itertools
import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from programs import PACKAGES


class Pages:
    """Serves pages and files on the loopback. `with Pages() as pages:`.

    `/npm/…` is what lies in `PACKAGES`; all else is what `add` and `add_folder` were given. Query strings are ignored.
    """

    def __init__(self) -> None:
        self._contents: dict[str, tuple[bytes, str]] = {}
        self._folders: dict[str, Path] = {"/npm/": PACKAGES}
        self._numbers = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Pages:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of a path. `host` may be any name below `.test`: the tests' browsers find it here."""
        return f"http://{host}:{self.port}{path}"

    def add(self, content: str, path: str = "", kind: str = "text/html; charset=utf-8") -> str:
        """Serves `content` at `path` (without one: at a new path of its own); returns its URL."""
        path = path or f"/page-{next(self._numbers)}"
        self._contents[path] = (content.encode(), kind)
        return self.url(path)

    def add_folder(self, prefix: str, folder: Path) -> str:
        """Serves the files of a folder below `prefix` ("/sdk/"); returns the URL of the prefix."""
        self._folders[prefix] = folder
        return self.url(prefix)

    def find(self, path: str) -> tuple[bytes, str] | None:
        """The content and type of a path; None when there is nothing."""
        if found := self._contents.get(path):
            return found
        for prefix, folder in self._folders.items():
            if path.startswith(prefix):
                file = (folder / path.removeprefix(prefix)).resolve()
                if file.is_relative_to(folder.resolve()) and file.is_file():
                    script = file.suffix in (".js", ".mjs", ".cjs")
                    kind = "text/javascript" if script else mimetypes.guess_type(file.name)[0]
                    return file.read_bytes(), kind or "application/octet-stream"
        return None


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = pages.find(unquote(urlsplit(self.path).path))
            body, kind = found or (b"there is nothing here", "text/plain")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
