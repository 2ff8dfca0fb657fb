"""The folder of a run under way: whose it is, when it goes on, and what is never lost."""

import errno
import json
import os

import pytest

from keras_vision.pipeline import unfinished
from keras_vision.pipeline.progress import Progress
from keras_vision.recipe import InputError

RECIPE = {"recipe": {"name": "baseline", "training": {"epochs": 20, "batch_size": 64}}, "backend": "jax"}


class Died(BaseException):
    pass


def session(out, error, data=None):
    """A run that saves something and fails."""
    with unfinished.create(out, RECIPE) as partial, Progress(partial) as progress:
        if data is not None:
            unfinished.require_same(partial, "data", data)
        progress.once("work", int, lambda: 7)
        raise error


def die(out, data=None):
    """The folder that such a run leaves."""
    with pytest.raises(Died):
        session(out, Died(), data)
    return unfinished.place(out)


def with_changes(**changes):
    recipe = {"recipe": {"name": "baseline", "training": {"epochs": 20, "batch_size": 64} | changes}}
    return RECIPE | recipe


def test_the_same_run_goes_on_with_what_was_saved(tmp_path, capsys):
    partial = die(tmp_path / "one")
    assert partial == tmp_path / "one.partial"
    assert "the same command goes on from there" in capsys.readouterr().err
    with unfinished.create(tmp_path / "one", RECIPE) as again, Progress(again) as progress:
        assert progress.once("work", int, lambda: pytest.fail("done before")) == 7
        assert [(one.stage, one.saved) for one in progress.interruptions] == [("work", "work")]
        (again / "report.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (with_changes(epochs=30), "--epochs 20 (now 30)"),
        (with_changes(batch_size=None), "--batch-size 64 (now none)"),
        (RECIPE | {"backend": "torch"}, "backend jax (now torch)"),
        (RECIPE | {"recipe": RECIPE["recipe"] | {"name": "best"}}, "--recipe baseline (now best)"),
    ],
)
def test_another_run_is_refused_with_what_differs(identity, words, tmp_path):
    partial = die(tmp_path / "one")
    with pytest.raises(InputError) as refused, unfinished.create(tmp_path / "one", identity):
        pass
    assert words in str(refused.value)
    assert "--restart" in str(refused.value)
    assert unfinished.has_work(partial)


def test_other_data_are_refused_when_they_are_known(tmp_path):
    die(tmp_path / "one", data={"train.npz": "abc"})
    with unfinished.create(tmp_path / "one", RECIPE) as partial:
        unfinished.require_same(partial, "data", {"train.npz": "abc"})
    die(tmp_path / "two")
    with unfinished.create(tmp_path / "two", RECIPE) as partial:
        unfinished.require_same(partial, "data", {"train.npz": "abc"})
        with pytest.raises(InputError, match=r"other data: train.npz abc \(now abd\)"):
            unfinished.require_same(partial, "data", {"train.npz": "abd"})


def test_a_folder_of_checkpoints_without_any_is_nothing_to_go_on_with(tmp_path):
    (tmp_path / "resume" / "training").mkdir(parents=True)
    assert not unfinished.has_work(tmp_path)
    (tmp_path / "resume" / "training" / "newest.state").touch()
    assert unfinished.has_work(tmp_path)


def test_restart_begins_anew(tmp_path):
    die(tmp_path / "one")
    with (
        unfinished.create(tmp_path / "one", with_changes(epochs=1), restart=True) as partial,
        Progress(partial) as progress,
    ):
        assert progress.once("work", int, lambda: 8) == 8
        assert not progress.interruptions


def test_another_run_may_begin_where_nothing_was_saved(tmp_path):
    """As after a process that was killed while it read the data."""
    (tmp_path / "one.partial" / "resume").mkdir(parents=True)
    (tmp_path / "one.partial" / "resume" / "identity.json").write_text(json.dumps({"kind": "report.json", **RECIPE}))
    (tmp_path / "one.partial" / "model.keras").write_text("half")
    with unfinished.create(tmp_path / "one", with_changes(epochs=1)) as partial:
        assert not (partial / "model.keras").exists()


def test_two_processes_never_share_a_folder(tmp_path):
    with (
        unfinished.create(tmp_path / "one", RECIPE),
        pytest.raises(InputError, match="is in use by another process"),
        unfinished.create(tmp_path / "one", RECIPE, restart=True),
    ):
        pass


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "one.partial").mkdir()
    (tmp_path / "one.partial" / "thesis.txt").write_text("years of work")
    for restart in (False, True):
        with pytest.raises(InputError, match="no run has left"), unfinished.create(tmp_path / "one", restart=restart):
            pass
    assert (tmp_path / "one.partial" / "thesis.txt").is_file()


def test_a_run_that_was_being_replaced_when_the_machine_stopped_is_put_back(tmp_path):
    (tmp_path / "one.partial.old").mkdir()
    (tmp_path / "one.partial.old" / "report.json").write_text("old")
    with pytest.raises(InputError, match="finished run"), unfinished.create(tmp_path / "one"):
        pass
    assert (tmp_path / "one" / "report.json").read_text() == "old"


@pytest.mark.parametrize("number", unfinished.DISK_ERRORS)
def test_a_full_disk_is_one_sentence_and_what_is_done_is_kept(number, tmp_path):
    with pytest.raises(InputError, match=f"Cannot write to .*one.partial: {os.strerror(number)}. Mend that and repeat"):
        session(tmp_path / "one", OSError(number, os.strerror(number)))
    assert unfinished.has_work(tmp_path / "one.partial")


def test_a_fault_of_the_program_keeps_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError), unfinished.create(tmp_path / "one"):
        raise FileNotFoundError(errno.ENOENT, "no such file", "elsewhere")


def test_a_result_that_was_not_written_completely_is_made_again(tmp_path):
    partial = die(tmp_path / "one")
    file = partial / "resume" / "work.state"
    file.write_bytes(file.read_bytes()[:-3])
    with unfinished.create(tmp_path / "one", RECIPE) as partial, Progress(partial) as progress:
        assert progress.once("work", int, lambda: 9) == 9


def test_a_session_whose_note_is_damaged_is_not_counted(tmp_path):
    partial = die(tmp_path / "one")
    (note,) = (partial / "resume" / "sessions").glob("*.json")
    for text in ["", "[]", '{"stage": 1, "saved": "", "alive_at": 0, "saved_at": 0}', '{"stage": "x"}']:
        note.write_text(text)
        assert not Progress(partial).interruptions
