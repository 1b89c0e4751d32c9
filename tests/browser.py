"""A headless Chromium, driven over its own pipe: nothing to install beside the browser."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
        "ArrowDown": 40, "Tab": 9}  # fmt: skip


def find_browser() -> str | None:
    """The program's path, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one tab; a context manager.

    What happens in the tab is kept in `requests` (addresses) and `errors` (texts) since `open`.
    """

    def __init__(self, timeout_seconds: float = 60) -> None:
        self.timeout_seconds = timeout_seconds
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._loaded: set[str] = set()
        self._rest = b""

    def __enter__(self) -> Browser:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--remote-debugging-pipe",
                 "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                 # Input that comes before the first frame is shown is not thrown away.
                 "--allow-pre-commit-input",
                 f"--user-data-dir={self._home.name}", "about:blank"]  # fmt: skip
        # The browser reads commands from descriptor 3 and answers on 4.
        line = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", str(find_browser()), *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")
        self._send("Page.setLifecycleEventsEnabled", enabled=True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._session = None
            self._send("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._home.cleanup()

    def open(
        self, page: Path | str, width: int = 1400, height: int = 900, *, dark: bool = False
    ) -> None:
        """Show a file or an address; in a narrow window like a phone with a touch screen."""
        phone = width < 600
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=2 if phone else 1, mobile=phone)  # fmt: skip
        self._send("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._load("about:blank")
        self.requests, self.errors = [], []
        self._load(page if isinstance(page, str) else page.resolve().as_uri())
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        result = self._send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, script: str) -> None:
        """Go on when an expression in the page is true."""
        end = time.monotonic() + self.timeout_seconds
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise TimeoutError(script)
            time.sleep(0.02)

    def press(self, key: str, text: str = "") -> None:
        """Press a key and let it go."""
        code = KEYS.get(key) or ord(key.upper())
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._send("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self._send("Input.dispatchKeyEvent", type="keyUp", **same)

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Where an element lies in the window, scrolled into it; (0.5, 0.5) is its middle."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(
            f"{element}.scrollIntoView("
            "{block: 'center', inline: 'nearest', behavior: 'instant'});"
            # Input goes to what is on the screen, which follows a frame later.
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        left, top, width, height = self.evaluate(
            f"(() => {{ const r = {element}.getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height]; })()"
        )
        return left + x * width, top + y * height

    def hover(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Move the mouse over an element."""
        left, top = self.place(selector, x, y)
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=left, y=top)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click in an element with the mouse."""
        left, top = self.place(selector, x, y)
        same = {"x": left, "y": top, "button": "left", "clickCount": 1}
        self._send("Input.dispatchMouseEvent", type="mousePressed", **same)
        self._send("Input.dispatchMouseEvent", type="mouseReleased", **same)

    def tap(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Touch an element."""
        left, top = self.place(selector, x, y)
        points = [{"x": left, "y": top}]
        self._send("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self._send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in an input."""
        root = self._send("DOM.getDocument")["root"]["nodeId"]
        node = self._send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._send("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def download_to(self, folder: Path) -> None:
        """Save what the page downloads in a folder."""
        self._send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self, file: Path) -> None:
        """Write what the window shows as a PNG."""
        file.write_bytes(base64.b64decode(self._send("Page.captureScreenshot")["data"]))

    def pinch(self, selector: str, start: float, end: float) -> None:
        """Touch an element with two fingers and move them apart, distances in pixels."""
        x, y = self.place(selector)
        kinds = ["touchStart", "touchMove", "touchMove"]
        for kind, distance in zip(kinds, (start, (start + end) / 2, end), strict=True):
            points = [{"x": x + side * distance / 2, "y": y, "id": side + 1} for side in (-1, 1)]
            self._send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        for rest in (points[:1], []):
            self._send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=rest)

    def wheel(self, selector: str, delta: float, x: float = 0.5, y: float = 0.5) -> None:
        """Turn the wheel over an element."""
        left, top = self.place(selector, x, y)
        self._send("Input.dispatchMouseEvent", type="mouseWheel", x=left, y=top,
                   deltaX=0, deltaY=delta)  # fmt: skip

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _load(self, address: str) -> None:
        """Go to an address; another document's load, which may come late, is not taken for its."""
        self._loaded.clear()
        document = self._send("Page.navigate", url=address)["loaderId"]
        while document not in self._loaded:
            self._note(self._receive())

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        if event["method"] == "Page.lifecycleEvent" and details["name"] == "load":
            self._loaded.add(details["loaderId"])
        elif event["method"] == "Network.requestWillBeSent":
            if not details["request"]["url"].startswith("data:"):
                self.requests.append(details["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(details["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and details["entry"]["level"] != "verbose":
            self.errors.append(details["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            self.errors.append(str(details["args"]))

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + self.timeout_seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise OSError("the browser has ended")
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)
