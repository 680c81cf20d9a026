"""A headless Chromium driven by its DevTools protocol through a pipe: no package needed, and no network."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One page of `width` x `height` CSS pixels; `log` collects uncaught errors, console messages and requests."""

    def __init__(self, profile: Path, width: int = 1100, height: int = 760, theme: str = "light"):
        (self.read, theirs_out), (theirs_in, self.write) = os.pipe(), os.pipe()
        # Chromium reads its commands from descriptor 3 and answers on 4; numbers above these can be moved there
        moved = [fcntl.fcntl(number, fcntl.F_DUPFD, 20) for number in (theirs_in, theirs_out)]
        options = ["--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--disable-extensions",
                   "--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                   f"--window-size={width},{height}"]  # fmt: skip
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{moved[0]} 4>&{moved[1]}', "browser", find(), *options, "about:blank"],
            pass_fds=moved, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for number in (theirs_in, theirs_out, *moved):
            os.close(number)
        self.numbers, self.rest, self.log, self.requests, self.session = itertools.count(1), b"", [], [], None
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.size(width, height)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.send("Browser.close")
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self.read)
        os.close(self.write)

    def send(self, method: str, **parameters) -> dict[str, Any]:
        """Give a command and wait for its answer; events on the way go into the log."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self.write, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + 30
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], max(0, end - time.monotonic()))
            found = os.read(self.read, 1 << 20) if ready else b""
            assert found, "the browser does not answer"
            self.rest += found
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        kind, found = event.get("method"), event.get("params", {})
        if kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.log.append(json.dumps(found))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"][:120])

    def open(self, path: Path) -> None:
        """Load a file and wait until it has been drawn."""
        self.send("Page.navigate", url=path.absolute().as_uri())
        end = time.monotonic() + 30
        while self.run("document.readyState") != "complete" or not self.run("Boolean(window.poseView)"):
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        self.settle()

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait for two pictures, so that what was asked for is on the screen."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def size(self, width: int, height: int, mobile: bool = False) -> None:
        """Resize the page; `mobile` turns touch on."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        """One mouse event: Pressed, Moved, Released or Wheel."""
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        """Press at `start`, move to `end`, release."""
        self.mouse("Pressed", *start, button="left", buttons=1, clickCount=1)
        for i in range(1, steps + 1):
            at = [a + (b - a) * i / steps for a, b in zip(start, end, strict=True)]
            self.mouse("Moved", *at, button="left", buttons=1)
        self.mouse("Released", *end, button="left", buttons=0, clickCount=1)
        self.settle()

    def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        x, y = self.run(f"(({MIDDLE})({json.dumps(selector)}))")
        self.mouse("Pressed", x, y, button="left", buttons=1, clickCount=1)
        self.mouse("Released", x, y, button="left", buttons=0, clickCount=1)
        self.settle()

    def key(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key; `modifiers`: 8 is shift."""
        codes = {" ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        more = {"windowsVirtualKeyCode": codes.get(key, ord(key.upper()) if len(key) == 1 else 0)}
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **more, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers, **more)
        self.settle()

    def screenshot(self, path: Path) -> Path:
        """What the page shows, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path


MIDDLE = """(selector) => {
  const element = document.querySelector(selector);
  element.scrollIntoView({ block: "nearest" });
  const box = element.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""
