"""Debian's Chromium, controlled by the DevTools protocol over two pipes.

The protocol is JSON messages that end with a NUL: that needs no WebSocket, no driver and no
library. https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, Final, Self

_SECONDS: Final = 120  # without any answer, on a busy machine

# Without the network flags, it makes requests to Google at every start.
_FLAGS: Final = (
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
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--lang=en-US",
    "--remote-debugging-pipe",
)


class ChromiumMissing(Exception):  # noqa: N818 - it names the state
    """Chromium is not on this machine; the message says how to install it."""


def find_chromium() -> str:
    """Return the path of the browser; raises `ChromiumMissing`."""
    found = shutil.which("chromium")
    if not found:
        raise ChromiumMissing(
            "Chromium is not here, so the report was not tested in a browser:"
            " apt-get install chromium"
        )
    return found


class Chromium:
    """A browser with one page, for as long as a `with` block lasts.

    `requests` are the addresses that the page has asked for; `complaints` what it wrote to the
    console, errors and refusals by its policy among them.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._path = find_chromium()
        self._last = 0
        self._session: str | None = None
        self._buffer = b""
        self._events: deque[dict[str, Any]] = deque()

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_by_browser, self._to = os.pipe()
        self._from, written_by_browser = os.pipe()
        # The browser reads commands at 3 and writes answers at 4.
        plumbing = f'exec 3<&{read_by_browser} 4>&{written_by_browser}; exec "$@"'
        self._process = subprocess.Popen(
            [  # noqa: S607 - any bash does
                "bash",
                "-c",
                plumbing,
                "-",
                self._path,
                *_FLAGS,
                f"--user-data-dir={self._profile.name}",
                "about:blank",
            ],
            pass_fds=(read_by_browser, written_by_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_by_browser)
        os.close(written_by_browser)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - it is JSON
        """Call a method of the protocol; return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._to, rest) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def open(self, page: Path) -> None:
        """Open a file and wait until it is loaded, its script included."""
        self.requests.clear()
        self.complaints.clear()
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while self._event()["method"] != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:  # noqa: ANN401 - any result of the script
        """Run a script in the page, await its promise, and return its value.

        It may do what the page's own policy forbids, as a reader's developer tools may.
        """
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            allowUnsafeEvalBlockedByCSP=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2_000])
        return answer["result"].get("value")

    def show(self, width: int = 1280, height: int = 900, **media: str) -> None:
        """Set the size of the window, and media features such as prefers_color_scheme."""
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        features = [{"name": name.replace("_", "-"), "value": v} for name, v in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, code: int) -> None:
        """Press a key, for navigation without a mouse."""
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def picture(self) -> bytes:
        """Return a picture of the window as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """Return the page as PDF, as it is printed."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(answer["data"])

    def _event(self) -> dict[str, Any]:
        return self._events.popleft() if self._events else self._receive()

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], _SECONDS)[0]:
                raise RuntimeError(f"Chromium has said nothing for {_SECONDS} seconds.")
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium has ended.")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        self._note(received)
        return received

    def _note(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(message["params"])[:500])
