"""Web servers on this machine, for the tests of what lies at an address."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers requests, and writes no log."""

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler):
    """A server at `url`, gone at the end."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
