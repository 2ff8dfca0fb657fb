"""docs/api.md describes every public name, and its examples run."""

import re
from pathlib import Path

import pytest

import keras_vision as kv

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
STAGES = ("data", "models", "training", "evaluation", "explanation", "quantization")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def section(title):
    """The text under a heading, up to the next of its level."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def described(text):
    """Names in the first column of the tables whose second column says something."""
    rows = re.findall(r"^\| (`.+?) \| \S.*\.[^|]* \|$", text, re.MULTILINE)
    return [name for cell in rows for name in re.findall(r"`(\w+)(?:\(.*?\))?`", cell)]


def test_the_front_door_is_described():
    assert sorted(described(section("Front door"))) == sorted(kv.__all__)


@pytest.mark.parametrize("stage", STAGES)
def test_every_public_name_of_a_stage_is_described(stage):
    assert sorted(described(section(stage))) == sorted(getattr(kv, stage).__all__)


@pytest.mark.parametrize("stage", STAGES)
def test_the_examples_use_at_least_two_names_of_every_stage(stage):
    used = set(re.findall(rf"kv\.{stage}\.(\w+)", "".join(BLOCKS)))
    assert len(used) >= 2
    assert used <= set(getattr(kv, stage).__all__)


@pytest.mark.slow
def test_the_examples_run_and_write_only_into_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "runs" / "home"))
    namespace = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"docs/api.md, example {number}", "exec"), namespace)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
