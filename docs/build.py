"""Builds the site: the pages of docs/, the notebooks and what they link to, as HTML that works offline.

Run:     make docs
Writes:  build/docs/, the pages in Markdown, and build/site/
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# Pages from elsewhere in the repository, by their place in the site.
ELSEWHERE = {
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "trained-models.md": ROOT / "tflite_exports" / "README.md",
}
LINK = re.compile(r"(\]\()([^)\s#]*)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```|~~~)")
ITEM = re.compile(r"^([-*]|\d+\.) ")
BADGE = re.compile(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]")
# A tag with which a browser loads something from a server by itself; a link of rel "canonical" loads nothing.
LOADING = re.compile(r"<(?:script|img|iframe|source|link)\b(?![^>]*canonical)[^>]*\b(?:src|href)=[\"']?(?:https?:)?//")


def sources() -> dict[str, Path]:
    """The file of every page, by its place in the site."""
    pages = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
    notebooks = {f"notebooks/{path.stem}.md": path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
    return {**pages, **notebooks, **ELSEWHERE}


def stage(folder: Path) -> None:
    """Writes every page and picture of the site into a new folder.

    Raises:
        ValueError: If a page links to a file that is neither a page nor in docs/.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = sources()
    places = {path.resolve(): place for place, path in pages.items()}
    for path in (*DOCS.rglob("*.png"), *DOCS.glob("*.css")):
        _write(folder / path.relative_to(DOCS), path.read_bytes())
        places[path.resolve()] = path.relative_to(DOCS).as_posix()
    for place, path in pages.items():
        if path.suffix == ".ipynb":
            _write(folder / place, _notebook(path, folder / "notebooks").encode())
        else:
            _write(folder / place, page(path, place, places).encode())


def page(path: Path, place: str, places: Mapping[Path, str]) -> str:
    """A page for the site, whose Markdown is stricter than a code host's, and whose links lead to the site's places.

    Args:
        path: The page's file.
        place: Its place in the site.
        places: The place of every page and picture, by its file.
    """

    def moved(link: re.Match) -> str:
        before, target, after = link.groups()
        if not target or "://" in target:
            return link[0]
        file = (path.parent / target).resolve()
        if file not in places:
            raise ValueError(f"{path.relative_to(ROOT)} links to {target}, which is not in the site.")
        return before + os.path.relpath(places[file], Path(place).parent).replace(os.sep, "/") + after

    # A badge is a picture from another server.
    text = BADGE.sub(r"[\1]", path.read_text("utf-8")).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return "\n".join(line if is_code else LINK.sub(moved, line) for line, is_code in _lines(text)) + "\n"


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines and whether they are code, with the empty line before a list that Python-Markdown needs."""
    fenced, before = False, ""
    for line in text.splitlines():
        fence = bool(FENCE.match(line))
        fenced ^= fence
        begins = ITEM.match(line) and before and not ITEM.match(before) and not before.startswith(" ")
        if begins and not fenced:
            yield "", False
        yield line, fenced or fence or line.startswith("    ")
        before = line


def _notebook(path: Path, folder: Path) -> str:
    """A notebook with its outputs as a page; writes its pictures and the notebook itself into a folder."""
    _write(folder / path.name, path.read_bytes())
    cells, pictures = json.loads(path.read_text("utf-8"))["cells"], 0
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _fenced(source, "python"))
        for output in cell.get("outputs", ()):
            if png := output.get("data", {}).get("image/png"):
                pictures += 1
                name = f"{path.stem}-{pictures}.png"
                _write(folder / name, base64.b64decode("".join(png)))
                parts.append(f"![Output {pictures}]({name})")
            else:
                parts.append(_fenced(_shown(output), "text"))
        if len(parts) == 1:
            parts.append(f"[{path.name}]({path.name}): the notebook, to run it.")
    return "\n\n".join(parts) + "\n"


def _shown(output: Mapping[str, Any]) -> str:
    return "".join(output.get("text") or output["data"]["text/plain"]).rstrip()


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> int:
    stage(ROOT / "build" / "docs")
    # Not --quiet, with which --strict counts no warning. The variable silences a word about the theme's successor.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode
    if status:
        return status
    site = ROOT / "build" / "site"
    online = [path.name for path in site.rglob("*.html") if LOADING.search(path.read_text("utf-8"))]
    if online:
        print(f"Pages that load something from a server: {', '.join(online)}.", file=sys.stderr)
        return 1
    print(f"The site is {(site / 'index.html').relative_to(ROOT)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
