"""Take a picture of a report in headless Chromium, and measure what a person would trip over.

    python scripts/screenshot_report.py runs/demo/report.html docs/report.png --width 1280 --height 1000
    python scripts/screenshot_report.py runs/demo/report.html phone.png --width 360 --whole --dark

Chromium is driven over a pipe with its own protocol, so nothing has to be installed besides the browser.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Look:
    """What a browser saw.

    Args:
        png: the picture.
        scroll_width: width of the page's content; larger than the window means scrolling sideways.
        height: of the whole page.
        problems: console messages, policy violations, dialogs and requests that left the page.
        smallest_text: pixels of the smallest text that is shown.
    """

    png: bytes
    scroll_width: int
    height: int
    smallest_text: float
    problems: list[str] = field(default_factory=list)


MEASURE = """(() => {
  let smallest = 1000;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const box = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || !box.checkVisibility() || ['title', 'desc', 'style'].includes(box.localName)) continue;
    const svg = box.closest('svg');
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    smallest = Math.min(smallest, scale * parseFloat(getComputedStyle(box).fontSize));
  }
  const root = document.scrollingElement;
  return JSON.stringify([root.scrollWidth, root.scrollHeight, smallest]);
})()"""


class Browser:
    """A headless Chromium that lives as long as the `with` block.

    Raises:
        RuntimeError: there is no Chromium.
    """

    def __init__(self) -> None:
        path = chromium()
        if path is None:
            raise RuntimeError("no chromium found")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; the shell moves ours there.
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, path, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._send("Browser.close")
            self._process.wait(20)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def look(
        self,
        page: Path,
        *,
        width: int,
        height: int = 800,
        dark: bool = False,
        whole: bool = False,
        unfold: bool = False,
        paper: bool = False,
    ) -> Look:
        """Open a page in a window of a size and scheme, and take its picture.

        Args:
            page: an HTML file.
            whole: the whole page instead of the first screen.
            unfold: open every `<details>` first.
            paper: as it would be printed.
        """
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable", session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._send("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        media = "print" if paper else "screen"
        self._send("Emulation.setEmulatedMedia", session, media=media, features=[scheme])
        address = page.resolve().as_uri()
        self._send("Page.navigate", session, url=address)
        self._await_event("Page.loadEventFired")
        if unfold:
            self._evaluate(session, "document.querySelectorAll('details').forEach(d => d.open = true); 1")
        scroll_width, page_height, smallest = json.loads(self._evaluate(session, MEASURE))
        shot: dict[str, Any] = {"format": "png"}
        if whole:
            clip = {"x": 0, "y": 0, "width": width, "height": min(page_height, 12_000), "scale": 1}
            shot |= {"clip": clip, "captureBeyondViewport": True}
        png = base64.b64decode(self._send("Page.captureScreenshot", session, **shot)["data"])
        problems = [text for event in self._events if (text := _problem(event, address))]
        self._send("Target.closeTarget", targetId=target)
        return Look(png, scroll_width, page_height, smallest, problems)

    def _evaluate(self, session: str, expression: str) -> Any:
        answer = self._send("Runtime.evaluate", session, expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def _send(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def _await_event(self, name: str) -> None:
        while not any(event.get("method") == name for event in self._events):
            self._events.append(self._receive())

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("chromium does not answer")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def _problem(event: dict[str, Any], address: str) -> str:
    method, parameters = event.get("method"), event.get("params", {})
    if method == "Log.entryAdded":
        return str(parameters["entry"]["text"])
    if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"):
        return f"{method}: {parameters}"
    if method == "Network.requestWillBeSent":
        url = parameters["request"]["url"]
        return "" if url.startswith("data:") or url.split("#")[0] == address else f"request: {url}"
    return ""


def main() -> None:
    """Parse, look, write the picture, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    for flag in ("dark", "whole", "unfold", "paper"):
        parser.add_argument(f"--{flag}", action="store_true")
    wanted = parser.parse_args()
    with Browser() as browser:
        look = browser.look(
            wanted.page,
            width=wanted.width,
            height=wanted.height,
            dark=wanted.dark,
            whole=wanted.whole,
            unfold=wanted.unfold,
            paper=wanted.paper,
        )
    wanted.picture.write_bytes(look.png)
    print(f"{wanted.picture}: page {look.scroll_width} x {look.height}, text from {look.smallest_text:.1f} px")
    for problem in look.problems:
        print(f"problem: {problem}")


if __name__ == "__main__":
    main()
