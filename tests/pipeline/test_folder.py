import pytest

from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import unfinished
from keras_vision.recipe import InputError


def finish(folder, text="{}"):
    (folder / "report.json").write_text(text)


def test_a_run_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "runs" / "one"
    with unfinished.create(out) as partial:
        finish(partial)
        assert not out.exists()
    assert (out / "report.json").is_file()
    assert [path.name for path in out.parent.iterdir()] == ["one"]


def test_a_failed_run_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), unfinished.create(tmp_path / "one"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_finished_run_stays_unless_overwriting_succeeds(tmp_path):
    out = tmp_path / "one"
    with unfinished.create(out) as partial:
        finish(partial, "first")
    with pytest.raises(InputError, match="--overwrite"):
        run_folder.check(out)
    with pytest.raises(RuntimeError), unfinished.create(out, overwrite=True):
        raise RuntimeError
    assert (out / "report.json").read_text() == "first"
    with unfinished.create(out, overwrite=True) as partial:
        finish(partial, "second")
    assert (out / "report.json").read_text() == "second"


def test_a_run_of_one_kind_is_replaced_by_its_own_kind_alone(tmp_path):
    out = tmp_path / "one"
    with unfinished.create(out, record=run_folder.RANGE_TEST) as partial:
        (partial / "learning_rates.json").write_text("first")
    with pytest.raises(InputError, match="--overwrite"):
        run_folder.check(out, record=run_folder.RANGE_TEST)
    with pytest.raises(InputError, match="report.json is missing"):
        run_folder.check(out, overwrite=True)
    with unfinished.create(out, overwrite=True, record=run_folder.RANGE_TEST) as partial:
        (partial / "learning_rates.json").write_text("second")
    assert (out / "learning_rates.json").read_text() == "second"


def test_an_empty_folder_may_be_filled(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with unfinished.create(".") as partial:
        finish(partial)
    assert (tmp_path / "empty" / "report.json").is_file()


def test_a_link_to_a_run_is_followed(tmp_path):
    with unfinished.create(tmp_path / "one") as partial:
        finish(partial, "first")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with unfinished.create(tmp_path / "link", overwrite=True) as partial:
        finish(partial, "second")
    assert (tmp_path / "one" / "report.json").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one"]


def test_a_finished_run_that_cannot_be_moved_is_kept(tmp_path):
    run = unfinished.create(tmp_path / "one")
    partial = run.__enter__()
    finish(partial, "slow")
    (tmp_path / "one").mkdir()
    finish(tmp_path / "one", "quick")
    with pytest.raises(InputError, match="is in .*could not be moved: .*--overwrite"):
        run.__exit__(None, None, None)
    assert (tmp_path / "one" / "report.json").read_text() == "quick"
    assert (partial / "report.json").read_text() == "slow"


def test_a_name_that_no_file_system_takes():
    with pytest.raises(InputError, match="cannot be used"):
        run_folder.check("x" * 5000)


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
    with pytest.raises(InputError, match="Cannot write"), unfinished.create(tmp_path / "file" / "run"):
        pass
