"""The package as ComfyUI's registry builds it: every file that git tracks, without those that .comfyignore names.

`python -m tests.archive FILE.zip` writes it, `python -m tests.archive` lists what is in it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def is_possible() -> bool:
    """Whether this is a checkout, and git is there to ask."""
    return shutil.which("git") is not None and (REPO / ".git").exists()


def files() -> list[str]:
    """Return the names of the files in the package, with forward slashes; raises CalledProcessError without git."""
    tracked = _git("ls-files")
    ignored = set(_git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [name for name in tracked if name not in ignored and (REPO / name).is_file()]


def write(path: Path) -> None:
    """Write the package to `path`, compressed as the registry's tool does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files():
            archive.write(REPO / name, name)


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments, "-z"], cwd=REPO, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
    else:
        sys.stdout.write("\n".join(files()) + "\n")
