"""What goes with a release says the same as the package."""

import json
import re
from pathlib import Path

import yaml

import keras_vision

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == keras_vision.__version__
    assert citation["license"] == "Apache-2.0"


def test_the_changelog_has_this_version_with_the_citations_date():
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert heads[0] == "Unreleased"
    assert heads[1] == f"{keras_vision.__version__} ({citation['date-released']})"


def test_the_image_copies_what_exists_and_its_user_is_not_root():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = [
        part for line in lines if line.startswith("COPY ") and "--from" not in line for part in line.split()[1:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    last_stage = lines[max(row for row, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last_stage if line.startswith("USER ")] == ["USER user"]


def test_the_costs_of_installations_are_those_that_were_measured():
    measured = json.loads((ROOT / "benchmarks" / "results" / "install.json").read_text("utf-8"))["results"]
    section = (ROOT / "docs" / "installing.md").read_text("utf-8").partition("## What each costs")[2]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines() if "| `" in line]
    assert {row[0] for row in rows} == measured.keys()
    for name, *cells in rows:
        known = measured[name]
        expected = (known["install_seconds"], known["megabytes"], known["run_seconds"], known["run_cpu_seconds"])
        assert [float(cell.replace(",", "")) for cell in cells[:4]] == [round(float(value), 1) for value in expected]
