"""The README and CONTRIBUTING promise only what is there."""

import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

from keras_vision import cli
from keras_vision.cli import TRACKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)\)", TEXTS[name]):
        if not target.startswith("http"):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_modules_that_are_named_exist():
    modules = set(re.findall(r"python -m (keras_vision[\w.]*)", README))
    assert "keras_vision.derma" in modules
    for module in modules:
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("track", TRACKS)
def test_flags_that_are_shown_are_taken(track):
    recipes = importlib.import_module(f"keras_vision.{track}").RECIPES
    pattern = rf"python -m keras_vision\.{track}((?: --?[\w-]+(?: [\w./]+)?)*)"
    for command in re.findall(pattern, "\n".join(TEXTS.values())):
        cli.parse(track, recipes, "", command.replace("--help", "").split())


def test_every_track_and_recipe_is_named():
    for track in TRACKS:
        row = re.search(rf"^\| `{track}` \|.*$", README, re.MULTILINE)
        assert row, track
        named = re.findall(r"`(\w+)`", row[0].split("|")[3])
        assert named == list(importlib.import_module(f"keras_vision.{track}").RECIPES)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:`|^ +)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_first_screen_has_both_commands():
    first = "\n".join(README.splitlines()[:30])
    assert "make demo" in first
    assert "make test" in first


DERMA = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
VOLUMES = ("accuracy", "balanced_accuracy", "auc")
FOLDERS = (*VOLUMES, "validation accuracy", "gap")


@pytest.mark.parametrize(
    ("text", "table", "results", "columns"),
    [
        ("docs/skin-lesions.md", "recipes", "derma_recipes", DERMA),
        ("docs/skin-lesions.md", "ingredients", "derma_ingredients", DERMA),
        ("docs/volumes.md", "recipes", "fracture3d_recipes", VOLUMES),
        ("docs/pictures.md", "imagenette", "imagenette_recipes", FOLDERS),
        ("docs/pictures.md", "plants", "plants_recipes", FOLDERS),
        ("docs/pictures.md", "recipes", "cifar_recipes_tensorflow", ("accuracy",)),
        ("docs/pictures.md", "ingredients", "cifar_ingredients_tensorflow", ("accuracy",)),
        ("docs/pictures.md", "transfer", "cifar_transfer_tensorflow", ("accuracy",)),
    ],
)
def test_figures_are_those_that_the_benchmark_wrote(text, table, results, columns):
    """Every row of a table stands in benchmarks/results with the same digits, and none is left out."""
    written = json.loads((ROOT / "benchmarks" / "results" / f"{results}.json").read_text("utf-8"))["figures"]
    section = TEXTS[text].partition(f"| {table} |")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]
    written = {name.strip("`"): figures for name, figures in written.items()}
    assert {row[0] for row in rows} == written.keys()
    for name, *cells in rows:
        shown = [float(cell.split()[0]) for cell in cells[: len(columns)]]
        assert shown == pytest.approx([written[name][column] for column in columns], abs=0.0006), name


def test_no_path_of_a_machine_is_in_the_texts():
    for text in TEXTS.values():
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)
