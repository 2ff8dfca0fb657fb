"""The README, CONTRIBUTING and the docs promise only what exists."""

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
    for path in (
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tflite_exports" / "README.md"),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", TEXTS[name]):
        if target.startswith("http"):
            continue
        place = (ROOT / name).parent.joinpath(target) if target else ROOT / name
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place.read_text("utf-8")), f"{target}#{anchor}"


def anchors(text):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index():
    index = TEXTS["docs/index.md"]
    for name in TEXTS:
        if name.startswith("docs/") and name != "docs/index.md":
            assert f"]({name.removeprefix('docs/')}" in index, name


def test_modules_that_are_named_exist():
    modules = set(re.findall(r"python -m (keras_vision[\w.]*)", README))
    assert "keras_vision.derma" in modules
    for module in modules:
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("track", TRACKS)
def test_shown_flags_are_accepted(track):
    recipes = importlib.import_module(f"keras_vision.{track}").RECIPES
    pattern = rf"(?:python -m keras_vision\.|keras-vision ){track}((?: --?[\w-]+(?: [\w./$:][\w./$:-]*)?)*)"
    for command in re.findall(pattern, re.sub(r"\\\n\s*", "", "\n".join(TEXTS.values()))):
        cli.parse(track, recipes, "", re.sub(r"--help(-all)?|--process-id \$\w+", "", command).split())


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
        ("docs/results/skin-lesions.md", "recipes", "derma_recipes", DERMA),
        ("docs/results/skin-lesions.md", "ingredients", "derma_ingredients", DERMA),
        ("docs/results/volumes.md", "recipes", "fracture3d_recipes", VOLUMES),
        ("docs/results/images.md", "imagenette", "imagenette_recipes", FOLDERS),
        ("docs/results/images.md", "plants", "plants_recipes", FOLDERS),
        ("docs/results/images.md", "recipes", "cifar_recipes_tensorflow", ("accuracy",)),
        ("docs/results/images.md", "ingredients", "cifar_ingredients_tensorflow", ("accuracy",)),
        ("docs/results/images.md", "transfer", "cifar_transfer_tensorflow", ("accuracy",)),
    ],
)
def test_tables_show_what_the_benchmark_wrote(text, table, results, columns):
    """Every row of a table is in benchmarks/results with the same digits, and none is left out."""
    written = json.loads((ROOT / "benchmarks" / "results" / f"{results}.json").read_text("utf-8"))["results"]
    section = TEXTS[text].partition(f"| {table} |")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]
    written = {name.strip("`"): row for name, row in written.items()}
    assert {row[0] for row in rows} == written.keys()
    for name, *cells in rows:
        shown = [float(cell.split()[0]) for cell in cells[: len(columns)]]
        assert shown == pytest.approx([written[name][column] for column in columns], abs=0.0006), name


def test_no_path_of_a_machine_is_in_the_texts():
    for text in TEXTS.values():
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)
