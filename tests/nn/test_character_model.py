"""The demonstration of a character model: losses of all norms side by side, and a sample of each."""

from __future__ import annotations

import re

import pytest

from tests.conftest import script

TINY = ["--hidden", "24", "--batch", "8", "--length", "12", "--updates", "30", "--sample", "40"]


def test_it_learns_and_samples(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat.\n" * 40)
    norms = ["none", "ln", "rms", "wn"]
    outputs = []
    for _ in range(2):
        assert script("demo/character_model.py").main([str(text), *TINY, "--norms", *norms]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    head, *samples = re.split(r"\n--- norm=\w+ ---\n", outputs[0])
    header, *rows = (line.split() for line in head.splitlines())
    assert header == ["update", *norms] and [row[0] for row in rows] == [str(u) for u in range(0, 31, 3)]
    for first, last in zip(rows[0][1:], rows[-1][1:], strict=True):
        assert float(last) < float(first) - 0.3
    assert [len(s.removesuffix("\n")) for s in samples] == [40] * 4
    assert set("".join(samples)) <= set(text.read_text())


@pytest.mark.parametrize(
    ("text", "message"), [("too short", "the text has 9 characters: must be 36 or more"), (None, "No such file or directory")]
)
def test_mistakes_are_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "text.txt"
    if text is not None:
        path.write_text(text)
    assert script("demo/character_model.py").main([str(path), *TINY]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
