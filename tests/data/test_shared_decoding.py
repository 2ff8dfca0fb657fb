"""One cache decoded by several processes: each does a part, none twice, whoever is killed."""

import json
import subprocess
import sys

import pytest

from keras_vision.data import picture_cache, picture_part, shared_decoding
from keras_vision.files import image_files
from keras_vision.files.lock import Lock

# Reads files until it has read some; then says so and waits for a line, or the end. Without the package's frameworks,
# whose import takes seconds.
PROCESS = """
import os, sys, threading, types
from pathlib import Path
import keras_vision
data = sys.modules["keras_vision.data"] = types.ModuleType("keras_vision.data")
data.__path__ = [os.path.join(keras_vision.__path__[0], "data")]
from keras_vision.data import picture_cache, shared_decoding
from keras_vision.files import image_files

root, log, stop = Path(sys.argv[1]), open(sys.argv[2], "w"), int(sys.argv[3])
names = sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))
read, turn, count = image_files.read_bytes, threading.Lock(), 0

def noted(path):
    global count
    with turn:
        count += 1
        print(path.relative_to(root), file=log, flush=True)
        if count == stop:
            os.write(sys.stderr.fileno(), b"here\\n")
            sys.stdin.readline()
    return read(path)

image_files.read_bytes = noted
shared_decoding.CHUNK = 4
os.sched_getaffinity = lambda process: {0, 1}
picture_cache.cached(root, names, (8, 8, 3), "crop")
"""


@pytest.fixture
def root(write_folder):
    """300 drawn images, some of which are none or have another format than their names say."""
    root = write_folder({"a": 150, "b": 150})
    for name in ("a/003.png", "b/140.png"):
        (root / name).write_bytes(b"not an image")
    for name in ("a/100.png", "b/149.png"):
        (root / name).rename((root / name).with_suffix(".jpg"))
    return root


def names_in(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))


def contents(home):
    (cache,) = home.iterdir()
    return cache.name, {path.name: path.read_bytes() for path in cache.iterdir()}


class Process:
    """A process that decodes the folder and stops after some files."""

    def __init__(self, root, log, stop):
        self.log = log
        command = [sys.executable, "-c", PROCESS, str(root), str(log), str(stop)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True)
        assert self.process.stderr.readline() == "here\n", self.process.communicate()

    def finish(self):
        self.process.communicate("\n")
        assert self.process.returncode == 0

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def read(self):
        return self.log.read_text().splitlines()


def journaled(partial, pattern):
    lines = [line for journal in partial.glob(pattern) for line in journal.read_text().splitlines()]
    return {name for line in lines for name, *_ in json.loads(line)["files"]}


@pytest.mark.slow
@pytest.mark.parametrize("killed", [None, "leader", "helper"])
def test_processes_share_the_decoding_and_the_cache_is_that_of_one(killed, root, tmp_path, monkeypatch):
    names = names_in(root)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "alone"))
    picture_cache.cached(root, names, (8, 8, 3), "crop")
    alone = contents(picture_cache.home())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "shared"))
    leader = Process(root, tmp_path / "leader", 100)
    helper = Process(root, tmp_path / "helper", 100)
    (partial,) = picture_cache.home().iterdir()
    if killed is None:
        # Where it meets the helper's shards, the leader waits.
        leader.process.stdin.write("\n")
        leader.process.stdin.flush()
        helper.finish()
        leader.finish()
        assert sorted(leader.read() + helper.read()) == names
    else:
        victim, survivor = (leader, helper) if killed == "leader" else (helper, leader)
        victim.kill()
        kept = journaled(partial, "whole/journal.jsonl" if killed == "leader" else "shards/*/journal.jsonl")
        assert 60 < len(kept) < 100
        survivor.finish()
        assert sorted(survivor.read()) == sorted(set(names) - kept)
    assert contents(picture_cache.home()) == alone
    assert {"a/003.png", "b/140.png"} == json.loads(alone[1]["index.json"])["set_aside"].keys()


@pytest.mark.slow
def test_a_leader_that_ends_while_it_appends_a_shard_loses_nothing(root, tmp_path, monkeypatch):
    names, read, decoded = names_in(root), image_files.read_bytes, []
    monkeypatch.setattr(image_files, "read_bytes", lambda path: decoded.append(path.name) or read(path))
    monkeypatch.setattr(shared_decoding, "CHUNK", 4)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "alone"))
    picture_cache.cached(root, names, (8, 8, 3), "crop")
    alone = contents(picture_cache.home())
    decoded.clear()
    # The shards of two helpers, the second of which goes on with what the first had claimed; no leader's part.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "shared"))
    partial = picture_cache.home() / f".partial-{alone[0]}"
    (partial / "shards").mkdir(parents=True)
    lead = Lock(partial / "lock")
    assert lead.acquire()
    Process(root, tmp_path / "first", 100).kill()
    before = journaled(partial, "shards/*/journal.jsonl")
    second = Process(root, tmp_path / "second", 60)
    second.kill()
    assert not before.intersection(second.read())
    lead.release()
    helped = journaled(partial, "shards/*/journal.jsonl")
    # In the middle of a shard of three chunks.
    append, last = picture_part.Part.append, (len(names) - len(helped) // 2) // 12 * 3 + 2

    def interrupted(part, content):
        nonlocal last
        last -= 1
        if not last:
            raise KeyboardInterrupt
        append(part, content)

    monkeypatch.setattr(picture_part.Part, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        picture_cache.cached(root, names, (8, 8, 3), "crop")
    assert len(journaled(partial, "whole/journal.jsonl")) > len(names) - len(helped)
    assert journaled(partial, "shards/*/journal.jsonl")
    picture_cache.cached(root, names, (8, 8, 3), "crop")
    assert len(decoded) == len(names) - len(helped)
    assert contents(picture_cache.home()) == alone
