"""A Hugging Face hub on this machine: enough of its interface for the real client to find and read datasets."""

import hashlib
import json
import re
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from tests.data.serving import Handler, serving

REVISION = "0123456789abcdef0123456789abcdef01234567"
_FILE = re.compile(rf"/datasets/(\w+/\w+)/resolve/(?:main|{REVISION})/(.+)")
_TREE = re.compile(rf"/api/datasets/(\w+/\w+)/tree/(?:main|{REVISION})(?:/(.+))?")
_ABOUT = re.compile(r"/api/datasets/(\w+/\w+)(?:/revision/.+)?")


class Hub(Handler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        hub = self.server
        if found := _FILE.fullmatch(path):
            self.file(found[1], found[2])
        elif (found := _TREE.fullmatch(path)) and found[1] in hub.datasets:
            self.tree(hub.datasets[found[1]], (found[2] or "").strip("/"), "recursive=true" in self.path.lower())
        elif (found := _ABOUT.fullmatch(path)) and found[1] in hub.datasets:
            self.send(json.dumps({"id": found[1], "sha": REVISION, "private": False}).encode())
        else:
            self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def file(self, name, path):
        hub = self.server
        if name not in hub.datasets:
            self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})
        elif path not in hub.datasets[name]:
            self.send(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
        elif hub.broken and path.endswith(".parquet"):
            self.send(b"", 403, {})
        else:
            content = hub.datasets[name][path]
            facts = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": REVISION}
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                hub.ranges.append((path, first, last + 1))
                facts["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                self.send(content[first : last + 1], 206, facts)
            else:
                self.send(content, 200, facts)

    def tree(self, files, folder, recursive):
        prefix = f"{folder}/" if folder else ""
        listed = {}
        for path, content in files.items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                parent = prefix + "/".join(parts[:depth])
                listed[parent] = {"type": "directory", "path": parent, "oid": "0" * 40}
            if recursive or len(parts) == 1:
                listed[path] = {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
        self.send(json.dumps(list(listed.values())).encode())

    def send(self, content, code=200, headers=None):
        self.send_response(code)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_hub(monkeypatch, folder):
    """The hub, which the libraries take for the real one; they keep what they keep in `folder`.

    Its `datasets` are names with their files, `ranges` the parts of files that were asked for; `broken`, it gives no
    Parquet file.
    """
    import datasets
    import huggingface_hub.constants as hub_constants
    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()  # an earlier hub may have had the same port
    with serving(Hub) as hub:
        hub.datasets, hub.ranges, hub.broken = {}, [], False
        url = hub.url
        monkeypatch.setattr(hub_constants, "ENDPOINT", url)
        monkeypatch.setattr(
            hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(folder / "hub"))
        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", url + "/datasets/{repo_id}/resolve/{revision}/{path}")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "datasets"))
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        monkeypatch.setattr(datasets.config, "USE_PARQUET_EXPORT", False)
        yield hub
