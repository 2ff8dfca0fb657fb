import json

import pytest

from keras_vision import compare


def make_run(folder, answers, accuracy=0.5):
    """A run's folder with the files that compare reads; `answers` maps an image to (label, predicted)."""
    folder.mkdir()
    report = {
        "data": {"name": "toy"},
        "split": "test",
        "images": len(answers),
        "metrics": {"accuracy": {"value": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}},
        "validation_metrics": {"accuracy": {"value": 0.4, "low": 0.3, "high": 0.5}},
        "training": {"epochs": 2, "best_epoch": 1, "seconds": 90.0, "accuracy": 0.75},
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "history.csv").write_text(
        "epoch,loss,val_loss,accuracy,val_accuracy\n1,1.0,1.1,0.4,0.3\n2,0.9,1.0,0.5,0.4\n"
    )
    lines = [f"{image},{label},{predicted}" for image, (label, predicted) in answers.items()]
    (folder / "predictions.csv").write_text("\n".join(["image_sha256,label,predicted", *lines]) + "\n")
    return str(folder)


def test_mcnemar_counts_the_images_that_both_have_judged(tmp_path, capsys):
    first = make_run(tmp_path / "one", {"a": (0, 0), "b": (1, 1), "c": (1, 0), "only": (0, 0)})
    second = make_run(tmp_path / "two", {"c": (1, 1), "b": (1, 0), "a": (0, 0), "other": (0, 1)})
    runs = [compare.read_run(folder) for folder in (first, second)]
    assert compare.mcnemar_table(runs)[1] == [["one", "two", 3, 1, 1, "1"]]


def test_runs_without_a_shared_image_are_not_tested(tmp_path):
    runs = [
        compare.read_run(make_run(tmp_path / "one", {"a": (0, 0)})),
        compare.read_run(make_run(tmp_path / "two", {"b": (0, 0)})),
    ]
    assert compare.mcnemar_table(runs)[1][0][-1] == "no image in common"


def test_three_runs_are_three_pairs_and_one_page(tmp_path, capsys):
    folders = [make_run(tmp_path / name, {"a": (0, 0)}) for name in ("one", "two", "<three>")]
    page = tmp_path / "page.html"
    assert compare.main([*folders, "--out", str(page)]) == 0
    assert "&lt;three&gt;" in page.read_text("utf-8")
    assert "<three>" not in page.read_text("utf-8")
    assert len(compare.mcnemar_table([compare.read_run(folder) for folder in folders])[1]) == 3


def test_the_training_table_is_of_the_epoch_that_was_kept(tmp_path):
    run = compare.read_run(make_run(tmp_path / "one", {"a": (0, 0)}))
    head, rows = compare.training_table([run])
    assert rows == [["one", 2, 1, "0.4000", "0.3000", "1.0000", "1.1000", "0.7500", "+0.3500"]]
    assert len(head) == len(rows[0])
    del run.report["training"]["accuracy"]  # A run of before it was written down.
    assert compare.training_table([run])[1][0][-2:] == ["none", "none"]


def test_mistakes_get_one_sentence(tmp_path, capsys):
    run = make_run(tmp_path / "one", {"a": (0, 0)})
    broken = make_run(tmp_path / "two", {"a": (0, 0)})
    (tmp_path / "two" / "report.json").write_text("{")
    poor = make_run(tmp_path / "three", {"a": (0, 0)})
    (tmp_path / "three" / "report.json").write_text('{"metrics": {}}')
    (tmp_path / "page.html").write_text("mine")
    page = str(tmp_path / "page.html")
    for argv, message in (
        ([run], "at least two runs"),
        ([run, str(tmp_path)], "is not a finished run"),
        ([run, poor, "--out", str(tmp_path / "new.html")], "is not a complete run"),
        ([run, broken, "--out", str(tmp_path / "new.html")], "is not a complete run"),
        ([run, run, "--out", page], "exists"),
        ([run, run, "--out", str(tmp_path / "no" / "page.html")], "Cannot write"),
    ):
        assert compare.main(argv) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert (tmp_path / "page.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", "[" * 100_000),
        ("report.json", '{"metrics": {"accuracy": {"value": 1' + "0" * 1000 + "}}}"),
        ("report.json", "9" * 5000),
        ("report.json", "[1, 2]"),
        ("history.csv", "epoch,loss\n1," + "9" * 200_000 + "\n"),
        ("predictions.csv", "image_sha256,label,predicted\n" + "x" * 200_000 + ",a,b\n"),
    ],
)
def test_hostile_files_of_a_run_get_one_sentence(tmp_path, capsys, name, content):
    run, hostile = (make_run(tmp_path / folder, {"a": (0, 0)}) for folder in ("one", "two"))
    (tmp_path / "two" / name).write_text(content)
    assert compare.main([run, hostile, "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert "two is not a complete run" in error
    assert error.count("\n") == 1
    assert len(error) < 1000


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    folders = [make_run(tmp_path / name / "run", {"a": (0, 0)}) for name in ("x", "y")]
    assert compare.main([*folders, "--out", str(tmp_path / "page.html")]) == 0
    assert folders[0] in capsys.readouterr().out


def test_help_needs_no_run():
    with pytest.raises(SystemExit) as stop:
        compare.main(["--help"])
    assert stop.value.code == 0


def test_a_metric_that_only_one_run_has_is_none_for_the_other(tmp_path):
    folders = [make_run(tmp_path / name, {"a": (0, 0)}) for name in ("one", "two")]
    path = tmp_path / "two" / "report.json"
    found = json.loads(path.read_text())
    found["metrics"]["quadratic_kappa"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    path.write_text(json.dumps(found))
    head, rows = compare.metrics_table([compare.read_run(folder) for folder in folders])
    assert head[-1] == "quadratic kappa"
    assert [row[-1] for row in rows] == ["none", "0.500  (0.400 to 0.600)"]
