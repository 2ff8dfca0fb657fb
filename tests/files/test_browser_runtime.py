"""LiteRT for browsers is fetched once, checked and read without being unpacked."""

import base64
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from keras_vision.files import browser_runtime
from keras_vision.recipe import InputError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path / "keras_vision" / "browser"


def archive(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def accept(monkeypatch, content):
    """Takes the bytes for the archive that is pinned."""

    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(browser_runtime, "SHA512", digest)


WHOLE = {browser_runtime.CORE: b"core", browser_runtime.GLUE: b"glue", browser_runtime.WASM: b"wasm"}


def npm(monkeypatch, content=None, stderr="", status=0):
    """Replaces npm by a function that writes these bytes; the list has the commands."""
    commands = []

    def run(command, *, cwd, **options):
        commands.append(command)
        if content is not None:
            (Path(cwd) / browser_runtime.ARCHIVE).write_bytes(content)
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(browser_runtime.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(browser_runtime.subprocess, "run", run)
    return commands


def test_it_is_fetched_once_and_kept(home, monkeypatch):
    content = archive({**WHOLE, "package/README.md": b"more"})
    accept(monkeypatch, content)
    commands = npm(monkeypatch, content)
    assert not browser_runtime.in_cache()
    for _ in range(2):
        assert browser_runtime.load() == browser_runtime.BrowserRuntime("core", "glue", b"wasm")
    assert [command[1:3] for command in commands] == [["pack", "@litertjs/core@2.5.3"]]
    assert browser_runtime.in_cache()
    assert [path.name for path in home.iterdir()] == [browser_runtime.ARCHIVE]


def test_another_archive_is_refused_and_not_kept(home, monkeypatch):
    npm(monkeypatch, archive(WHOLE))
    with pytest.raises(InputError, match="is not @litertjs/core 2.5.3: its SHA-512 is"):
        browser_runtime.load()
    assert not list(home.iterdir())


def test_an_archive_that_lacks_a_part_or_has_a_link_for_one_is_refused(home, monkeypatch):
    content = archive({name: content for name, content in WHOLE.items() if name != browser_runtime.WASM})
    accept(monkeypatch, content)
    npm(monkeypatch, content)
    with pytest.raises(InputError, match="has no package/wasm/litert_wasm_compat_internal.wasm"):
        browser_runtime.load()


def test_without_npm_or_a_network_the_ways_out_are_named(home, monkeypatch):
    npm(monkeypatch, stderr="npm error network down\nmore", status=1)
    with pytest.raises(InputError, match=r"npm cannot fetch .*network down\).*pass --runtime FOLDER"):
        browser_runtime.load()
    monkeypatch.setattr(browser_runtime.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="needs npm once. Either fetch it where there is a network"):
        browser_runtime.load()


def test_a_folder_can_be_named(home, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="has no litertjs-core-2.5.3.tgz"):
        browser_runtime.load(tmp_path)
    content = archive(WHOLE)
    accept(monkeypatch, content)
    (tmp_path / browser_runtime.ARCHIVE).write_bytes(content)
    assert browser_runtime.load(tmp_path).wasm == b"wasm"
