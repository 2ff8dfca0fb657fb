"""Runs the notebooks: from NN_name.py, NN_name.ipynb with outputs and a picture for the docs.

Run:     make notebooks
         .venv/bin/python notebooks/build.py 03_training_loops
Writes:  notebooks/NN_name.ipynb and docs/notebooks/NN.png

A rebuild changes nothing where the numbers are the same: cells have fixed ids, and no time, path or
version is kept. The exception is 04, whose result is a measurement of time.
"""

import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
PICTURE_STYLE = {"dpi": 80, "bbox_inches": "tight"}
PICTURE_BYTES = 150_000  # A code host shows the notebook; larger files load slowly.
DOCS_BYTES = 100_000
FOR_DOCS = {"05": 1, "07": 2}  # Which picture the docs show; of the others it is the last.
SECONDS_PER_CELL = 300
FORBIDDEN = {
    "a path": re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|usr)\b"),
    "a time": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|(\d|\b)m?s/(step|epoch)\b"),
    "bytes in place of a picture": re.compile(r"\Ab['\"]"),
    "an address in memory": re.compile(r"\bat 0x[0-9a-f]{6,}"),
}


def sources() -> list[Path]:
    """The notebooks' sources, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read(source: Path) -> Any:
    """A notebook without outputs, as it is before it runs."""
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict({})
    return notebook


def execute(notebook: Any, folder: str | os.PathLike) -> Any:
    """Runs a notebook in its own kernel, with `folder` as working directory; adds the outputs."""
    caches = ("IPYTHONDIR", "KERAS_HOME", "JAX_COMPILATION_CACHE_DIR")
    own = {name: str(Path(folder) / name.lower()) for name in caches}
    own["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    client = nbclient.NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=[f"--InlineBackend.print_figure_kwargs={PICTURE_STYLE}"],
    )
    client.execute(env={"KERAS_BACKEND": "jax", **os.environ, **own})
    notebook.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    for output in outputs(notebook):
        data = output.get("data", {})
        if "image/png" in data:
            data["image/png"] = (
                base64.b64encode(smaller(base64.b64decode(data["image/png"]))).decode() + "\n"
            )
    return notebook


def smaller(picture: bytes) -> bytes:
    """A PNG file over the limit with 256 colours instead of all; others unchanged."""
    if len(picture) <= PICTURE_BYTES:
        return picture
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(
        buffer, format="png", optimize=True
    )
    return buffer.getvalue()


def outputs(notebook: Any) -> list[Any]:
    """All outputs of a notebook, in order."""
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


def texts(notebook: Any) -> list[str]:
    """All outputs that are text."""
    found = outputs(notebook)
    shown = [
        value
        for output in found
        for kind, value in output.get("data", {}).items()
        if kind.startswith("text/")
    ]
    return shown + [output.text for output in found if output.output_type == "stream"]


def pictures(notebook: Any) -> list[bytes]:
    """All outputs that are PNG files."""
    found = [
        output["data"]["image/png"]
        for output in outputs(notebook)
        if "image/png" in output.get("data", {})
    ]
    return [base64.b64decode(text) for text in found]


def faults(notebook: Any) -> list[str]:
    """What an executed notebook must not have, a phrase each."""
    found = [] if outputs(notebook) else ["no output"]
    for output in outputs(notebook):
        if output.output_type == "error":
            found.append(f"an error: {output.ename}")
        elif output.get("name") == "stderr":
            found.append(f"standard error: {output.text[:300]!r}")
    for text in texts(notebook):
        found += [
            f"{what}: {match[0]!r}"
            for what, pattern in FORBIDDEN.items()
            if (match := pattern.search(text))
        ]
    sizes = [len(picture) for picture in pictures(notebook)]
    return found + [f"a picture of {size:,} bytes" for size in sizes if size > PICTURE_BYTES]


def build(source: Path) -> None:
    """Runs one notebook and writes its file and its picture.

    Raises:
        ValueError: If its outputs have what they must not have.
    """
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(read(source), folder)
    if found := faults(notebook):
        raise ValueError(f"{source.name} has {'; '.join(found)}.")
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    PICTURES.mkdir(exist_ok=True)
    number = source.name[:2]
    (PICTURES / f"{number}.png").write_bytes(pictures(notebook)[FOR_DOCS.get(number, -1)])


def main(argv: Sequence[str] | None = None) -> int:
    names = set(sys.argv[1:] if argv is None else argv)
    for source in sources():
        if not names or source.stem in names:
            print(f"Running {source.name}...", flush=True)
            build(source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
