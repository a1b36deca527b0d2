"""A headless Chromium over its DevTools pipe: pages are opened, keys pressed, and errors heard."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATH = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = "no chromium here: apt-get install chromium"
PAGE_SECONDS = 60.0  # a busy machine starts a browser slowly
_KEYS = {
    "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33,
    "PageDown": 34, "Home": 36, "End": 35, "Tab": 9, "Enter": 13,
}  # fmt: skip


# Chromium wants the ends of its pipe as files 3 and 4.
_START = """
import os, sys
from fcntl import F_DUPFD, fcntl
ends = [fcntl(int(number), F_DUPFD, 10) for number in sys.argv[1:3]]
for wanted, end in enumerate(ends, 3):
    os.dup2(end, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium with one page. ``problems`` holds what its console and its network complain of.

    ``requests`` holds the addresses that the page has asked for.
    """

    def __init__(self, width: int = 1200, height: int = 1000) -> None:
        self._profile = tempfile.mkdtemp(prefix="lesionkit-chromium-")
        ours, theirs = os.pipe(), os.pipe()  # what we write and they read, and back
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
        flags += [f"--user-data-dir={self._profile}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-IS", "-c", _START, str(ours[0]), str(theirs[1])),
                *(PATH, *flags, "--remote-debugging-pipe", "about:blank"),
            ],
            pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = ours[1], theirs[0]
        self._unread, self._number, self._session = b"", 0, None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        (target,) = (
            target["targetId"]
            for target in self._call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, path: Path) -> None:
        """Open a file and wait until it has loaded."""
        self.problems.clear()
        self.requests.clear()
        self._loaded = False
        self._call("Page.navigate", url=path.absolute().as_uri())
        self._wait(lambda: self._loaded)

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        self._wait(lambda: self.evaluate(expression), expression)

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key, by its name or its letter."""
        code = _KEYS.get(key) or ord(key.upper())
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self._call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event, **text
        )
        self._call("Input.dispatchKeyEvent", type="keyUp", **event)

    def wheel(self, x: float, y: float, down: int) -> None:
        self._call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._to)
            os.close(self._from)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _call(self, method: str, **parameters: object) -> dict:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PAGE_SECONDS
        while True:
            answer = self._read(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self, end: float) -> dict:
        """The next message; what it says of the page is kept."""
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"chromium does not answer within {PAGE_SECONDS:g} s")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise AssertionError("chromium has ended")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\0")
        message = json.loads(line)
        event, details = message.get("method"), message.get("params", {})
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(details["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.problems.append(str(details["args"]))
        elif event == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.problems.append(details["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        return message

    def _wait(self, done, what: str = "the page") -> None:
        end = time.monotonic() + PAGE_SECONDS
        while not done():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {PAGE_SECONDS:g} s; {self.problems}")
            time.sleep(0.02)
            self.evaluate("0")  # its answer brings what has happened meanwhile
