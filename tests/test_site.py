"""The site's pages, before mkdocs makes HTML of them: all are in the menu, and links lead to what is in the site."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
assert spec is not None
assert spec.loader is not None
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, where one value is a Python function."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *arguments: None)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "docs"
    build.stage(folder)
    return folder


def pages(site):
    return {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.md")}


def prose(text):
    """A page without its code."""
    return re.sub(r"^(```).*?^```$|^    .*?$|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def entries(menu):
    """Pages of a menu of mkdocs.yml, at every depth."""
    if isinstance(menu, str):
        return [menu]
    return [page for part in (menu.values() if isinstance(menu, dict) else menu) for page in entries(part)]


def test_every_page_is_in_the_menu_once(site):
    assert sorted(entries(SETTINGS["nav"])) == sorted(pages(site))


def test_links_lead_to_what_is_in_the_site(site):
    texts = pages(site)
    links = [(name, link) for name, text in texts.items() for link in re.findall(r"\]\(([^)\s]*)\)", prose(text))]
    assert len(links) > 100
    for name, link in links:
        if "://" in link:
            assert re.fullmatch(r"https?://[\w.-]+\.\w+(/[\w./~%#?=&+,:@-]*)?", link), f"{name}: {link}"
            continue
        target, _, anchor = link.partition("#")
        place = (site / name).parent.joinpath(target).resolve() if target else site / name
        assert place.is_file(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(place.read_text("utf-8")), f"{name}: {link}"


def test_no_picture_is_on_a_server_and_the_theme_loads_nothing(site):
    for name, text in pages(site).items():
        assert not re.search(r"!\[[^\]]*\]\((https?:)?//|<(img|script|iframe)\b", prose(text)), name
    assert SETTINGS["theme"]["font"] is False
    assert "analytics" not in SETTINGS["extra"]
    for file in SETTINGS["extra_css"]:
        assert (site / file).is_file(), file


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://unpkg.com/shim"></script>', True),
        ('<link rel="stylesheet" href="https://fonts.googleapis.com/css">', True),
        ("<img alt=x src=//example.org/a.png>", True),
        ('<script src="assets/bundle.js"></script><a href="https://keras.io">Keras</a>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
    ],
)
def test_what_a_browser_would_load_from_a_server_is_found(html, loads):
    assert bool(build.LOADING.search(html)) is loads


def test_a_page_becomes_one_of_the_site(tmp_path):
    """Links follow the pages, lists get their empty line, badges become links, and code stays as it is."""
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "page.md"
    path.write_text(
        "Two:\n- [one](notebooks/01.ipynb#why)\n- [![Colab](https://x.org/a.svg)](https://x.org)\n\n"
        "    [code](notebooks/01.ipynb)\n\n```\nThree:\n- four\n```\n",
        "utf-8",
    )
    places = {(tmp_path / "notebooks" / "01.ipynb").resolve(): "notebooks/01.md"}
    assert build.page(path, "results/page.md", places) == (
        "Two:\n\n- [one](../notebooks/01.md#why)\n- [Colab](https://x.org)\n\n"
        "    [code](notebooks/01.ipynb)\n\n```\nThree:\n- four\n```\n"
    )


def test_a_link_out_of_the_site_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("[code](../setup.py)", "utf-8")
    with pytest.raises(ValueError, match=r"page\.md links to \.\./setup\.py, which is not in the site"):
        build.page(tmp_path / "page.md", "page.md", {})
