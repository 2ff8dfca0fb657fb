import pytest

from keras_vision import run_folder
from keras_vision.recipe import InputError


def finish(folder, text="{}"):
    (folder / "report.json").write_text(text)


def test_a_run_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "runs" / "one"
    with run_folder.create(out) as partial:
        finish(partial)
        assert not out.exists()
    assert (out / "report.json").is_file()
    assert [path.name for path in out.parent.iterdir()] == ["one"]


def test_a_failed_run_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), run_folder.create(tmp_path / "one"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_finished_run_stays_unless_overwriting_succeeds(tmp_path):
    out = tmp_path / "one"
    with run_folder.create(out) as partial:
        finish(partial, "first")
    with pytest.raises(InputError, match="--overwrite"):
        run_folder.check(out)
    with pytest.raises(RuntimeError), run_folder.create(out, overwrite=True):
        raise RuntimeError
    assert (out / "report.json").read_text() == "first"
    with run_folder.create(out, overwrite=True) as partial:
        finish(partial, "second")
    assert (out / "report.json").read_text() == "second"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="left alone"):
        run_folder.check(tmp_path, overwrite=True)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run_folder.check(tmp_path / "file", overwrite=True)


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"), run_folder.create(tmp_path / "file" / "run"):
        pass
