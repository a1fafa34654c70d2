"""What several tests of sources start from."""

import pytest

from tests.data.serving import Handler, serving


@pytest.fixture
def write(tmp_path):
    def write(text, name="photos.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def server():
    """Gives what `files` holds; `announced` may promise more bytes than come."""

    class Files(Handler):
        def do_GET(self):
            content = self.server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.server.asked.append(self.path)
            if isinstance(content, str):  # another address
                self.send_response(302)
                self.send_header("Location", content)
                content = b""
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(self.server.announced or len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving(Files) as running:
        running.files, running.asked, running.announced = {}, [], 0
        yield running
