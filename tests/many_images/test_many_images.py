"""`predict --shards`: rows, what goes on after an interruption, what is refused, processes that end."""

import csv
import json
import os
import queue
import shutil
import subprocess
import sys
import types
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_vision import many_images, predict
from keras_vision.classifier import Classifier
from keras_vision.files.walk import files_under
from keras_vision.many_images import listing, processes, ray_stage, run
from keras_vision.many_images.plan import Plan, begin, held
from keras_vision.many_images.progress import Progress
from keras_vision.recipe import InputError

EXPORTS = Path(__file__).parents[2] / "tflite_exports"
MODEL, OTHER_MODEL = EXPORTS / "derma-best" / "int8.tflite", EXPORTS / "derma-best" / "float32.tflite"
UNREAD = {"cut.jpg", "notes.png"}
# A child that acts on some files before it reads them; on some of them only the first time.
CHILD = """
import os, signal, sys, threading
from pathlib import Path
from keras_vision.files import image_files
from keras_vision.many_images import worker

read = image_files.read_bytes

def acting(path):
    name, once = Path(path).stem, Path(__file__).with_name("once")
    if name.startswith("deadly") or (name.startswith("first") and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("blocking"):
        once.touch()
        threading.Event().wait()
    return read(path)

image_files.read_bytes = acting
worker.main()
"""


@pytest.fixture
def photos(tmp_path, scene, monkeypatch):
    """A folder with images of several kinds, two that are not read, a text file and a hidden one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for number in range(7):
        cv2.imwrite(str(folder / "b" / f"{number}, {number}.png"), scene(number, 30 + 9 * number))
    cv2.imwrite(str(folder / "large.jpg"), scene(8, 300)[:200])
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([scene(9), scene(10)[..., :1]]))
    cv2.imwrite(str(folder / "deep.png"), scene(11).astype(np.uint16) * 8)
    turned = cv2.imencode(".jpg", scene(12, 60)[:40])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (folder / "turned.jpg").write_bytes(b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + turned[2:])
    (folder / "cut.jpg").write_bytes((folder / "large.jpg").read_bytes()[:40])
    (folder / "notes.png").write_text("not an image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("")
    return Path("photos")


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "acting_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "_WORKER", "acting_child")


def start(*arguments, out="out", shards=4, model=MODEL):
    """Runs the command with two processes."""
    words = [str(model), *map(str, arguments), "--out", out, "--shards", str(shards), "--processes", "2"]
    return predict.main(words)


def rows(out="out"):
    found = []
    for path in sorted(Path(out).glob("part-*.csv")):
        with path.open(newline="") as file:
            found += list(csv.DictReader(file))
    return found


def parts(out="out"):
    """`{name: (bytes, time)}`."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(out).glob("part-*")}


@pytest.mark.slow
def test_rows_are_the_answers_of_predict_bit_by_bit(photos, capsys):
    assert start(photos) == 1
    output, error = capsys.readouterr()
    assert output == "13 images in 4 shards: out\n"
    assert "photos: 1 file is no image and left out: notes.txt" in error
    assert "error: 2 files were not read; out/_unreadable.csv has the reasons." in error
    assert "13 of 13 images, " in error
    classifier, found = Classifier.open(MODEL), rows()
    images = predict.find_images(["photos"])
    assert [row["path"] for row in found] == [str(path) for path in images]
    for (path, scores), row in zip(classifier.predict(images), found, strict=True):
        if path.name in UNREAD:
            assert scores is None
            assert (row["answer"], row["score"]) == ("", "")
            assert row["error"]
            continue
        assert [row["answer"]] == classifier.labels_of(scores)
        assert float(row["score"]) == scores.max()
        assert [float(row[f"score_{name}"]) for name in classifier.class_names] == scores.tolist()
    assert [name for name, (content, _) in sorted(parts().items()) if content.count(b"\n") != 4] == [
        "part-00003-of-00004.csv"  # 3, 3, 3 and 4 images.
    ]
    with open("out/_unreadable.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert {Path(row["path"]).name: row["reason"] for row in listed} == {
        Path(row["path"]).name: row["error"] for row in found if row["error"]
    }
    assert all(row["path"].encode() in parts()[row["part"]][0] for row in listed)


@pytest.mark.slow
def test_only_missing_and_damaged_shards_are_written_again(photos, capsys):
    start(photos)
    before = parts()
    gone, cut, unsigned = "part-00001-of-00004", "part-00002-of-00004", "part-00003-of-00004"
    Path(f"out/{gone}.csv").unlink()
    Path(f"out/{cut}.csv").write_bytes(before[f"{cut}.csv"][0][:-9])
    Path(f"out/_plan/{unsigned}.json").unlink()
    capsys.readouterr()
    assert start(photos) == 1
    after = parts()
    assert {name: content for name, (content, _) in after.items()} == {name: old for name, (old, _) in before.items()}
    assert [name for name in sorted(after) if after[name][1] == before[name][1]] == ["part-00000-of-00004.csv"]
    assert "1 of 4 shards are there already.\n" in capsys.readouterr().err
    assert start(photos) == 1
    assert parts() == after


@pytest.mark.slow
def test_a_process_that_is_killed_is_reported_and_its_shard_begins_again(photos, child, capsys):
    shutil.copy("photos/alpha.png", "photos/first.png")
    assert start(photos, shards=2) == 1
    sentence = (
        "A process was ended by SIGKILL after 0 of the 7 images of part-00001-of-00002.csv; the shard begins again."
    )
    assert sentence in capsys.readouterr().err
    assert [row["path"] for row in rows()] == [str(path) for path in predict.find_images(["photos"])]


@pytest.mark.slow
def test_a_shard_whose_process_always_ends_is_a_sentence_and_the_others_are_there(photos, child, capsys):
    Path("photos/b/3, 3.png").rename("photos/deadly.png")
    assert start(photos, shards=13) == 2
    errors = capsys.readouterr().err.splitlines()
    shard = [str(path) for path in predict.find_images(["photos"])].index("photos/deadly.png")
    assert sum("was ended by SIGKILL" in line for line in errors) == processes.ATTEMPTS
    assert errors[-1].startswith(f"error: Not written: part-{shard:05}-of-00013.csv. A process ended 3 times there")
    assert len(parts()) == 12
    assert not Path("out/_unreadable.csv").exists()


@pytest.mark.slow
def test_an_interruption_ends_the_processes_and_keeps_finished_shards(photos, monkeypatch, capsys):
    started = []
    give, finish = processes._Worker.give, Progress.finish
    monkeypatch.setattr(processes._Worker, "give", lambda self, shard: (started.append(self), give(self, shard)))

    def interrupted(self, *args):
        finish(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "finish", interrupted)
    assert start(photos, shards=6) == 130
    assert all(worker.process.returncode is not None for worker in started)
    assert "Finished shards are kept; the same command goes on with the others." in capsys.readouterr().err
    # One that was renamed and has no receipt yet is written again.
    kept = {name: part for name, part in parts().items() if Path("out/_plan", name).with_suffix(".json").exists()}
    assert 1 <= len(kept) < 6
    monkeypatch.setattr(Progress, "finish", finish)
    assert start(photos, shards=6) == 1
    assert kept.items() <= parts().items()
    assert len(rows()) == 13


@pytest.fixture
def begun(photos):
    """The folder of a command that was interrupted at its beginning."""
    with held(plan_of()):
        begin("photos", plan_of())
    return photos


def plan_of(**changes):
    predictor = many_images.Predictor(MODEL)
    identity = {**predictor.identity, "format": "csv", "shards": 4} | changes
    return Plan(os.path.abspath("out"), os.getcwd(), {"model": str(MODEL)}, "csv", 4, identity)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"model": OTHER_MODEL}, "'model'"),
        ({"resize": "pad"}, "'resize', crop; now it is pad|'resize', stretch; now it is pad"),
        ({"class_names": list("abcdefg")}, "'classes'"),
        ({"shards": 5}, "'shards', 4; now it is 5"),
        ({"all_scores": False}, "'all scores', True; now it is False"),
    ],
)
def test_another_model_or_flag_is_refused_where_shards_are(begun, flags, name):
    with pytest.raises(InputError, match=f"out was begun with another value of ({name}).*Choose another --out"):
        many_images.predict(**{"model": MODEL, "source": "photos", "out": "out", "shards": 4, **flags})


def test_another_version_of_a_library_is_refused(begun):
    with pytest.raises(InputError, match="another value of 'LiteRT', .*; now it is 0.1"), held(plan_of()):
        begin("photos", plan_of(LiteRT="0.1"))


@pytest.mark.parametrize("change", ["more", "fewer", "renamed", "elsewhere"])
def test_other_images_are_refused_where_shards_are(begun, change, monkeypatch):
    out = Path("out").absolute()
    if change == "more":
        shutil.copy("photos/alpha.png", "photos/z.png")
    elif change == "fewer":
        Path("photos/alpha.png").unlink()
    elif change == "renamed":
        Path("photos/alpha.png").rename("photos/z.png")
    else:
        shutil.copytree("photos", "elsewhere/photos")
        monkeypatch.chdir("elsewhere")
    with pytest.raises(InputError, match="another value of '(images|their paths)'"):
        many_images.predict(MODEL, "photos", out, shards=4)


def test_a_folder_that_is_in_use_or_holds_something_else_is_refused(photos):
    with held(plan_of()), pytest.raises(InputError, match="out is being written by another command"):
        many_images.predict(MODEL, "photos", "out", shards=4)
    with pytest.raises(InputError, match="photos exists and is no folder of shards"):
        many_images.predict(MODEL, "photos", "photos", shards=4)
    assert not Path("photos/_plan").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["photos", "--shards", "4"], "--shards needs --out DIR"),
        (["photos", "--shards", "0", "--out", "new"], "take a number of at least 1"),
        (["photos", "--shards", "14", "--out", "new"], "--shards 14 is more than the 13 images of photos"),
        (["photos", "--shards", "4", "--out", "new", "--csv"], "have no effect with --shards"),
        (["photos", "photos", "--shards", "4", "--out", "new"], "takes one folder, or one text file"),
        (["photos/alpha.png", "--shards", "4", "--out", "new"], "Received the image photos/alpha.png"),
        (["none", "--shards", "4", "--out", "new"], "none does not exist"),
        (["photos", "--processes", "4"], "--processes is used with --shards N"),
        (["photos", "--no-scores"], "--no-scores is used with --shards N"),
    ],
)
def test_a_mistake_is_one_sentence(photos, capsys, words, sentence):
    assert predict.main([str(MODEL), *words]) == 2
    output, error = capsys.readouterr()
    assert sentence in error
    assert error.splitlines()[-1].startswith("error: ")
    assert not output
    assert not parts("new")


def test_a_keras_model_is_refused():
    with pytest.raises(InputError, match="with a .tflite file. Received: model.keras"):
        many_images.predict("model.keras", "photos", "out", shards=4)


def test_a_lists_paths_are_its_lines_whatever_they_hold(tmp_path):
    names = ["a b.png", ' "quoted".png', "caf\u00e9.png", os.fsdecode(b"\xff.png"), "s3://bucket/a,b.png"]
    place = tmp_path / "list"
    place.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(map(os.fsencode, names)) + b"\n\n")
    found = listing.scan(str(place), tmp_path / "paths.jsonl")
    assert found.images == len(names)
    assert found == listing.scan(str(place))
    shards = listing.divide(tmp_path / "paths.jsonl", len(names), 3)
    assert [shard.count for shard in shards] == [1, 2, 2]
    assert [path for shard in shards for path in listing.paths_of(tmp_path / "paths.jsonl", shard)] == names
    place.write_bytes(b"MODEL\0\0")
    with pytest.raises(InputError, match="is no text file: line 1 has a null character"):
        listing.scan(str(place))


def test_a_folders_files_are_in_the_order_of_their_sorted_paths(tmp_path):
    for name in ("b/c/d", "b/a", "a.png", "a/z", ".hidden/x", "b/.hidden", "c-d/e", "c/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    shown = [path for path in tmp_path.rglob("*") if ".hidden" not in path.parts and path.is_file()]
    assert list(files_under(tmp_path)) == sorted(shown)
    with pytest.raises(InputError, match="none cannot be listed: no such file or directory"):
        list(files_under(tmp_path / "none"))


def test_a_file_at_an_address_has_the_row_of_the_same_file(photos):
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
    content = Path("photos/large.jpg").read_bytes()
    fsspec.filesystem("memory").pipe({"/bucket/large.jpg": content, "/bucket/empty.jpg": b""})
    predictor = many_images.Predictor(MODEL, root="photos")
    names = ["large.jpg", "memory://bucket/large.jpg", "memory://bucket/none.jpg", "memory://bucket/empty.jpg"]
    found = predictor.columns(names)
    assert found["path"] == names
    for name in ("answer", "score", *predictor.score_names):
        assert found[name][0] == found[name][1] is not None
        assert found[name][2:] == [None, None]
    assert found["error"][:2] == [None, None]
    assert found["error"][2]
    assert found["error"][3] == "empty file"


def test_a_process_ends_when_nobody_waits_for_it(photos, child, tmp_path):
    shutil.copy("photos/alpha.png", "photos/blocking.png")
    with held(plan_of()):
        plan = begin("photos", plan_of())
        shard = listing.divide(plan.paths, 14, 1)[0]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-m", "acting_child"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        process.stdin.write(json.dumps({"plan": asdict(plan), "decoders": 1}).encode() + b"\n")
        process.stdin.write(json.dumps(asdict(shard)).encode() + b"\n")
        process.stdin.close()
        assert process.wait(timeout=120) == 1
    assert not parts()


def test_a_process_that_hangs_is_ended(monkeypatch, capsys):
    killed = []

    def worker(name, heard, shard):
        process = types.SimpleNamespace(kill=lambda: killed.append(name))
        return types.SimpleNamespace(process=process, heard=heard, shard=shard)

    monkeypatch.setattr(processes.time, "monotonic", lambda: 1000.0)
    shard = listing.Shard(0, 0, 1)
    progress = Progress(1, 0)
    processes._end_silent([worker("hangs", 300.0, shard), worker("works", 500.0, shard)], progress)
    assert killed == ["hangs"]
    assert "A process said nothing for 600 s and is ended." in capsys.readouterr().err


def test_what_a_process_refuses_is_the_commands_sentence():
    with pytest.raises(InputError, match="it changed"):
        processes._hear(types.SimpleNamespace(heard=0), {"error": "it changed"}, queue.Queue(), None)
    with pytest.raises(RuntimeError, match="where it failed"):
        processes._hear(types.SimpleNamespace(heard=0), {"error": "", "traceback": "where it failed"}, None, None)


def test_progress_says_how_long_it_takes(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("keras_vision.many_images.progress.time.monotonic", lambda: clock[0])
    progress = Progress(10_000, 2_000)
    clock[0] = 40.0
    progress.finish(0, 300)
    progress.update(1, 100)
    progress.show()
    clock[0] = 41.0
    progress.show()
    assert capsys.readouterr().err == "2,400 of 10,000 images, 10 a second, 13 min left\n"


@pytest.mark.slow
def test_parquet_has_the_rows_of_csv(photos):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    start(photos)
    assert start(photos, "--format", "parquet", out="columns") == 1
    tables = [parquet.read_table(path).to_pylist() for path in sorted(Path("columns").glob("part-*.parquet"))]
    found = [row for table in tables for row in table]
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in found] == rows()


def test_without_a_package_the_error_names_the_command(photos, monkeypatch):
    for package, flags, extra in (("pyarrow", {"format": "parquet"}, "parquet"), ("ray", {"ray": "local"}, "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.parquet", None)
        with pytest.raises(InputError, match=rf"pip install 'keras-vision\[{extra}\]'"):
            many_images.predict(MODEL, "photos", f"out-{extra}", shards=2, **flags)


def test_a_stage_of_ray_writes_the_shard_and_refuses_another_model(begun):
    with held(plan_of()):
        plan = begin("photos", plan_of())
        shards = listing.divide(plan.paths, 13, 4)
        written = ray_stage.ShardWriter(asdict(plan))(asdict(shards[3]))
        assert list(parts()) == ["part-00003-of-00004.csv"]
        writer = ray_stage.ShardWriter(asdict(plan))
        attempts = plan.unfinished / f"{plan.name(0)}-attempts"
        attempts.write_bytes(b"." * (processes.ATTEMPTS - 1))
        assert writer(asdict(shards[0]))["images"] == 3
        with pytest.raises(InputError, match=r"part-00000-of-00004.csv is not written: its process ended 3 times"):
            writer(asdict(shards[0]))
    assert written == {"index": 3, "images": 4}
    assert plan.receipt(3).images == 4
    assert plan_of(resize="pad").receipt(3) is None  # Of another plan.
    with pytest.raises(InputError, match=r"float32.tflite is another file"):
        ray_stage.ShardWriter({**asdict(plan), "model": {"model": str(OTHER_MODEL)}})


@pytest.mark.slow
def test_a_local_ray_writes_the_same_files(photos):
    pytest.importorskip("ray", reason="needs Ray")
    start(photos)
    # In a process of its own: Ray's warnings are not ours.
    words = [str(MODEL), "photos", "--out", "on-ray", "--shards", "4", "--processes", "1", "--ray", "local"]
    done = subprocess.run([sys.executable, "-m", "keras_vision.predict", *words], check=False, timeout=300)
    assert done.returncode == 1
    assert {name: content for name, (content, _) in parts("on-ray").items()} == {
        name: content for name, (content, _) in parts().items()
    }


def test_public_names_are_described():
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    section = page.partition("\n## many_images\n")[2].partition("\n## ")[0]
    assert all(f"| `{name}" in section for name in many_images.__all__)


def test_a_summary_is_one_line():
    assert str(run.Summary(Path("out"), 1234, 4, 0, 0, [])) == "1,234 images in 4 shards: out"
