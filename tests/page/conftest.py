"""A headless Chromium without a network, driven through a pipe by the Chrome DevTools Protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

import pytest

from keras_vision import page as page_command
from keras_vision.files import browser_runtime, download

EXPORTS = Path(__file__).parents[2] / "tflite_exports"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-sandbox", "--disable-gpu", "--mute-audio"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
SECONDS = 120


class Browser:
    """One Chromium; `open` gives a tab."""

    def __init__(self, profile):
        to_child, self.write_end = os.pipe()
        self.read_end, from_child = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4, so its ends must not be these while they are moved there.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_child, from_child)]
        moves = [(os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(high, (3, 4), strict=True)]
        quiet = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=[quiet, *moves], setpgroup=0)
        for end in (to_child, from_child, *high):
            os.close(end)
        self.rest, self.number, self.events = b"", 0, []

    def _message(self):
        until = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read_end], [], [], max(0, until - time.monotonic()))
            content = os.read(self.read_end, 2**20) if ready else b""
            if not content:
                raise RuntimeError("Chromium does not answer.")
            self.rest += content
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def send(self, method, session=None, **params):
        """The result of a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        content = json.dumps(message if session is None else {**message, "sessionId": session}).encode() + b"\0"
        while content:
            content = content[os.write(self.write_end, content) :]
        while True:
            answer = self._message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url, *, before="", width=1200, height=850, dark=False):
        """A tab without a network that shows a page; `before` is JavaScript that runs before the page's."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.send(f"{domain}.enable")
        tab.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        tab.show_as(width, height, dark)
        if before:
            tab.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        tab.send("Page.navigate", url=url)
        return tab

    def close(self):
        with contextlib.suppress(RuntimeError, OSError):
            self.send("Browser.close")
        for end in (self.read_end, self.write_end):
            os.close(end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


class Tab:
    """A tab of a browser."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target

    def send(self, method, **params):
        return self.browser.send(method, self.session, **params)

    def show_as(self, width, height, dark=False):
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script):
        """The value of an expression, awaited if it is a promise."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def until(self, condition):
        """Waits for an expression to be true, looking at each frame of the page."""
        self.run(
            "new Promise((resolve) => { const look = () => { let done = false; try { done = Boolean("
            f"{condition}) }} catch {{}} if (done) resolve(true); else setTimeout(look, 5); }}; look(); }})"
        )

    def ready(self):
        """Waits until the page has started, then until it has answered everything."""
        self.until("globalThis.kerasVisionPage !== undefined")
        self.run("kerasVisionPage.idle()")
        return self

    def choose(self, *paths):
        """Chooses files as with the file dialog, and waits for their answers."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])
        self.run("kerasVisionPage.idle()")

    def results(self):
        """Name and probabilities of each answer of each model, the first picture first."""
        return self.run(
            "kerasVisionPage.results.map(({ name, answers }) => [name, answers.map((one) => one && one.probabilities)])"
        )

    def complaints(self):
        """Errors of this tab that the browser has written, such as what its policy refused."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def close(self):
        self.browser.send("Target.closeTarget", targetId=self.target)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def runtime_folder():
    """The folder that LiteRT for browsers is in; skips where it was not fetched."""
    if not browser_runtime.in_cache():
        pytest.skip(f"needs {browser_runtime.PACKAGE} in the cache: make page")
    return download.keras_home("keras_vision") / "browser"


@pytest.fixture
def make_page(tmp_path, runtime_folder, capsys):
    """Writes a page with the command and gives its URL: a function of the command's arguments."""

    def make(*arguments):
        out = tmp_path / f"page-{len(list(tmp_path.glob('page-*.html')))}.html"
        status = page_command.main([*map(str, arguments), "--runtime", str(runtime_folder), "--out", str(out)])
        assert status == 0, capsys.readouterr().err
        return out.as_uri()

    return make
