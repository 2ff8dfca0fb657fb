"""What `push` uploads of a run, and what it refuses. The hub is a server of the test's own on this machine."""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from keras_vision import push
from keras_vision.pipeline import folder as run_folder

TOKEN = "hf_ThisIsTheSecretOfTheTest"
OPEN = (
    "README.md",
    "labels.txt",
    "model.keras",
    "plots/confusion_matrix.png",
    "tflite/int8.json",
    "tflite/int8.tflite",
)
IMAGES = ("mistakes/a.png", "plots/heatmaps.png", "predictions.csv", "report.html", "report.json", "splits.csv")


@pytest.fixture
def run(tmp_path):
    for name in (*OPEN, *IMAGES):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tmp_path / "run"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that an upload uses; keeps what it was told in `server.heard`."""

    def do_POST(self):
        # The client sends long bodies in chunks.
        body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._body()
        self.server.heard.append((self.path, self.headers["Authorization"], body))
        if self.server.refusal:
            return self._answer(403, {"error": self.server.refusal})
        if self.path == "/api/repos/create":
            return self._answer(200, {"url": f"{self.server.url}/me/derma"})
        if "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return self._answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        if "/commit/" in self.path:
            return self._answer(200, {"commitUrl": f"{self.server.url}/me/derma/commit/1", "commitOid": "1"})
        return self._answer(200, {})

    def do_GET(self):
        self._answer(200, {"id": "me/derma", "sha": "0", "siblings": []})

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self):
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that the client talks to, with a token."""
    package = pytest.importorskip("huggingface_hub", reason="needs huggingface-hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.heard, server.refusal = f"http://127.0.0.1:{server.server_port}", [], None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    client = package.HfApi(endpoint=server.url, token=TOKEN)
    monkeypatch.setattr(package, "HfApi", lambda: client)
    yield server
    server.shutdown()
    server.server_close()


def committed(server):
    """`{path: content}` of the files in the commit."""
    (body,) = (body for path, _, body in server.heard if "/commit/" in path)
    rows = [json.loads(line) for line in body.splitlines()]
    files = [row["value"] for row in rows if row["key"] == "file"]
    return {file["path"]: base64.b64decode(file["content"]).decode() for file in files}


@pytest.mark.parametrize(("typed", "names"), [([], OPEN), (["--with-images"], (*OPEN, *IMAGES))])
def test_an_upload_is_announced_and_is_the_files_that_were_announced(run, hub, capsys, typed, names):
    assert push.main([str(run), "me/derma", *typed]) == 0
    output, error = capsys.readouterr()
    assert committed(hub) == {name: f"content of {name}" for name in names}
    announced, *_, last = output.splitlines()
    assert announced == f"To me/derma, 0.0 MB: {', '.join(sorted(names))}."
    assert last == f"Uploaded: {hub.url}/me/derma"
    assert {authorization for _, authorization, _ in hub.heard} == {f"Bearer {TOKEN}"}
    assert TOKEN not in output + error
    assert not any(TOKEN.encode() in body for _, _, body in hub.heard)
    made = json.loads(hub.heard[0][2])
    assert "private" in (made.get("visibility"), made.get("private") and "private")


def test_a_refusal_is_one_sentence_without_the_token(run, hub, capsys):
    hub.refusal = f"Forbidden for {TOKEN}"
    assert push.main([str(run), "me/derma"]) == 2
    output, error = capsys.readouterr()
    assert error.startswith("error: The hub did not take me/derma: ")
    assert error.count("\n") == 1
    assert TOKEN not in output + error


def test_a_dry_run_only_says_what_would_be_uploaded(run, monkeypatch, capsys):
    monkeypatch.setattr(push, "upload", lambda *args, **kwargs: pytest.fail("it was uploaded"))
    assert push.main([str(run), "me/derma", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert f"names images of the data: {', '.join(IMAGES)}." in output


def test_a_file_that_nobody_knows_is_left_out(run):
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events").write_text("")
    (run / "plots" / "new.png").write_text("")
    chosen, left = run_folder.to_publish(run)
    assert chosen == sorted(OPEN)
    assert left == sorted([*IMAGES, "plots/new.png", "tensorboard/events"])


def test_without_a_token_there_is_one_sentence(run, monkeypatch, capsys):
    package = pytest.importorskip("huggingface_hub", reason="needs huggingface-hub")
    monkeypatch.setattr(package, "get_token", lambda: None)
    assert push.main([str(run), "me/derma"]) == 2
    expected = "error: push needs a token of the hub: hf auth login, or the environment variable HF_TOKEN.\n"
    assert capsys.readouterr().err == expected


def test_without_the_package_there_is_one_sentence(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push.main([str(run), "me/derma"]) == 2
    assert "needs the package huggingface-hub: pip install 'keras-vision[hub]'.\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["derma", "me/derma/more", "me/", "../derma", "me/der ma", "-me/derma"])
def test_a_name_that_the_hub_cannot_have_is_refused(run, capsys, name):
    assert push.main(["--dry-run", "--", str(run), name]) == 2
    assert f"A repository is named OWNER/NAME. Received: {name!r}." in capsys.readouterr().err


def test_what_is_no_finished_run_is_refused(run, capsys):
    (run / "report.json").unlink()
    assert push.main([str(run), "me/derma"]) == 2
    assert "is not a finished run with a model card: it has no report.json." in capsys.readouterr().err
