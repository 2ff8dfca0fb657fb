"""Uploads a finished run to a model hub: the model, its .tflite files and its card.

Run:     python -m keras_vision.push runs/derma NAME/derma --dry-run        # only says what would be uploaded
         python -m keras_vision.push runs/derma NAME/derma
Needs:   pip install 'keras-vision[hub]', and a token: `hf auth login`, or the environment variable HF_TOKEN
Leaves out what shows or names images of the data, unless --with-images is given; new repositories are private
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_vision import cli
from keras_vision.recipe import InputError, first_line, printable

# The hub's own rule for the two parts of a name.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("push"), description=__doc__, usage="%(prog)s RUN OWNER/NAME [--dry-run] [flags]"
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository on the hub; made if it does not exist")
    parser.add_argument("--dry-run", action="store_true", default=False, help="only say what would be uploaded")
    parser.add_argument(
        "--with-images",
        action="store_true",
        default=False,
        help="also upload the report and what else shows or names images of the data",
    )
    parser.add_argument("--public", action="store_true", default=False, help="make a new repository public")
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        files, left_out = _files(options)
        total = sum((Path(options.run) / name).stat().st_size for name in files) / 1e6
        print(f"To {options.repository}, {total:.1f} MB: {printable(', '.join(files))}.", flush=True)
        if left_out:
            print(
                f"Left out, since it shows or names images of the data: {printable(', '.join(left_out))}. "
                "--with-images uploads it, too.",
                flush=True,
            )
        if not options.dry_run:
            print(f"Uploaded: {upload(options.run, options.repository, files, public=options.public)}")
    return status.code


def _files(options):
    """The files to upload, and those that stay.

    Raises:
        InputError: If there is no finished run, or the repository's name cannot be one.
    """
    from keras_vision.pipeline import folder as run_folder

    if not re.fullmatch(rf"{NAME}/{NAME}", options.repository):
        raise InputError(f"A repository is named OWNER/NAME. Received: {options.repository!r}.")
    return run_folder.to_publish(options.run, images=options.with_images)


def upload(run: str | Path, repository: str, files: Sequence[str], *, public: bool = False, client: Any = None) -> str:
    """Uploads files of a run, in one commit.

    Args:
        run: The run's folder.
        repository: `OWNER/NAME`; made if it does not exist.
        files: Their places in the folder.
        public: Whether a new repository is public.
        client: A `huggingface_hub.HfApi`; by default one with the token that is stored on this machine.

    Returns:
        The repository's address.

    Raises:
        InputError: If the package `huggingface_hub` or a token is missing, or the hub refuses.
    """
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError("push needs the package huggingface-hub: pip install 'keras-vision[hub]'.") from error
    client = client or huggingface_hub.HfApi()
    token = client.token or huggingface_hub.get_token()
    if not token:
        raise InputError("push needs a token of the hub: hf auth login, or the environment variable HF_TOKEN.")
    try:
        made = client.create_repo(repository, private=not public, exist_ok=True, token=token)
        client.upload_folder(
            repo_id=repository,
            folder_path=run,
            allow_patterns=[re.sub(r"([\[*?])", r"[\1]", name) for name in files],
            commit_message="A run of keras_vision",
            token=token,
        )
    except Exception as error:  # The client raises what its HTTP library raises.
        # Whatever the answer holds, the token is not printed.
        reason = first_line(error).replace(token, "[token]").rstrip(".")
        raise InputError(f"The hub did not take {repository}: {reason}.") from None
    return str(made)


if __name__ == "__main__":
    sys.exit(main())
