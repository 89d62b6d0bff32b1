"""What the tests share: small data sets in the original formats. The real command is in tests/processes.py."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lnexp import paths
from lnexp.data.mnist import IDX_FILES
from lnexp.tasks import TASKS
from tests.processes import PYTHON, Started, call, environ, train  # noqa: F401  (for tests that import them from here)

SHARED = paths.ROOT.parent / "shared" / "data"  # real data sets, where there are any beside the checkout


def script(path: str) -> ModuleType:
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, paths.ROOT / "scripts" / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run side by side, each on one core, and nothing leaves the machine."""
    torch.set_num_threads(1)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of a test before this one; its children would share it


def write_idx(path: Path, array: np.ndarray) -> None:
    """An IDX file of unsigned bytes, gzipped as MNIST is distributed."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MNIST's format: 1,200 + 200 pictures of ten noisy blobs that a small net learns in seconds."""
    folder = tmp_path_factory.mktemp("digits")
    random = np.random.default_rng(0)
    shapes = random.integers(0, 256, (10, 28, 28))
    for name, n in (("train", 1200), ("t10k", 200)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        noise = random.integers(0, 256, (n, 28, 28))
        images = np.where(random.random((n, 28, 28)) < 0.3, shapes[labels], noise).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    assert all((folder / f"{name}.gz").exists() for name in IDX_FILES)
    return folder


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Karpathy's layout: 120 + 40 + 45 images of two things each, which their captions name among other words."""
    folder = tmp_path_factory.mktemp("captioned")
    random = np.random.default_rng(0)
    things, others = [f"thing{n}" for n in range(12)], [f"word{n}" for n in range(30)]
    looks = random.normal(size=(len(things), 24))
    images, features = [], []
    for split, n in (("train", 120), ("val", 40), ("test", 45)):
        for k in range(n):
            shown = random.choice(len(things), 2, replace=False)
            features.append(looks[shown].sum(0) + 0.3 * random.normal(size=24))
            sentences = []
            for _ in range(random.integers(2, 6)):
                words = [*(things[t] for t in shown), *random.choice(others, random.integers(0, 12))]
                sentences.append({"tokens": [str(w) for w in random.permutation(words)]})
            images.append({"filename": f"{split}{k}.jpg", "split": split, "sentences": sentences})
    (folder / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": images}))
    np.save(folder / "features.npy", np.array(features, np.float16))
    return folder


def write_questions(folder: Path, sizes: dict[str, int]) -> None:
    """Questions in DeepMind's format: who beats, meets, ... whom, in sentences of different lengths."""
    random = np.random.default_rng(0)
    for split, n in sizes.items():
        (folder / split).mkdir()
        for k in range(n):
            told = []
            for verb in random.permutation(("beats", "meets", "sees", "calls", "helps", "leaves"))[: random.integers(2, 5)]:
                who, whom = random.choice(8, 2, replace=False)
                told.append((f"@entity{who}", verb, f"@entity{whom}"))
            passage = " ".join(" ".join([*t, *["again"] * random.integers(0, 4), "."]) for t in told)
            who, verb, whom = told[random.integers(len(told))]
            names = "\n".join(f"@entity{e}:name {e}" for e in range(8))
            text = f"http://x\n\n{passage}\n\n@placeholder {verb} {whom}\n\n{who}\n\n{names}\n"
            (folder / split / f"{k:04}.question").write_text(text)


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of CNN questions: 300 + 70 + 5 of them."""
    folder = tmp_path_factory.mktemp("asked")
    write_questions(folder, {"training": 300, "validation": 70, "test": 5})
    return folder


@pytest.fixture(scope="session")
def storied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six books of 250 sentences of three to six words, each about the same animal as the one before it or the next animal."""
    folder = tmp_path_factory.mktemp("books")
    random = np.random.default_rng(0)
    animals, deeds = ("cat", "dog", "owl", "fox", "hen"), ("runs", "sleeps", "sings", "hides")
    for book in range(6):
        about = random.integers(0, 2, 250).cumsum() % len(animals)
        text = []
        for animal in about:
            adjectives = ["the", "old", "red"][: random.integers(0, 4)]
            text.append(" ".join([*adjectives, animals[animal], random.choice(deeds)]).capitalize() + ".")
        (folder / f"book{book}.txt").write_text(" ".join(text))
    return folder


def write_amat(path: Path, pixels: np.ndarray) -> None:
    """A text file of zeros and ones, gzipped as the binarised digits are distributed."""
    lines = (" ".join(map(str, row)) + " \n" for row in pixels)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress("".join(lines).encode()))


@pytest.fixture(scope="session")
def binary_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of binarised images: 400 + 100 + 100 pictures of one of ten rectangles each, with a little noise."""
    folder = tmp_path_factory.mktemp("binary_digits")
    random = np.random.default_rng(0)
    shapes = np.zeros((10, 28, 28), np.uint8)
    for k, shape in enumerate(shapes):
        shape[4 + k : 12 + k, 6 : 12 + k] = 1
    for split, n in (("train", 400), ("valid", 100), ("test", 100)):
        noise = random.random((n, 28, 28)) < 0.01
        write_amat(folder / f"binarized_mnist_{split}.amat", (shapes[random.integers(0, 10, n)] ^ noise).reshape(n, -1))
    return folder


LISTED = {"trainset": ("a01-000", 60), "testset_v": ("b01-000", 24), "testset_t": ("c01-000", 3), "testset_f": ("d01-000", 24)}


def line_of_strokes(text: str, random: np.random.Generator) -> str:
    """A line in IAM-OnDB's format: for each letter a stroke whose slope is the letter's."""
    strokes, x = [], 1000
    for letter in text:
        slope = (ord(letter) % 7 - 3) * 10
        at = [(x + 20 * k + random.integers(-3, 4), 500 + slope * k + random.integers(-3, 4)) for k in range(3)]
        points = "\n".join(f'<Point x="{a}" y="{b}" time="{k}.0"/>' for k, (a, b) in enumerate(at))
        strokes.append(f"<Stroke colour='black'>\n{points}\n</Stroke>")
        x += 80
    body = "\n".join(strokes)
    session = f"<WhiteboardCaptureSession>\n<StrokeSet>\n{body}\n</StrokeSet>\n</WhiteboardCaptureSession>"
    return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{session}\n'


@pytest.fixture(scope="session")
def penned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in IAM-OnDB's format: 111 lines of three to nine letters."""
    folder = tmp_path_factory.mktemp("penned")
    random = np.random.default_rng(0)
    for name, (form, count) in LISTED.items():
        (folder / f"{name}.txt").write_text(f" {form}\n")
        for top in ("lineStrokes", "ascii"):
            (folder / top / form[:3] / form).mkdir(parents=True)
        texts = ["".join(random.choice(list("abcdef "), random.integers(3, 10))).strip() or "a" for _ in range(count)]
        (folder / "ascii" / form[:3] / form / f"{form}.txt").write_text("OCR:\n\nx\n\nCSR:\n\n" + "\n".join(texts) + "\n")
        for k, text in enumerate(texts, 1):
            (folder / "lineStrokes" / form[:3] / form / f"{form}-{k:02}.xml").write_text(line_of_strokes(text, random))
    return folder


@pytest.fixture
def smoke_of(
    digits: Path, captioned: Path, asked: Path, storied: Path, binary_digits: Path, penned: Path, tmp_path: Path
) -> dict[str, list[str]]:
    """For each task, overrides of a run that takes a second, writes into a folder of the test's own, and needs no network."""
    common = ["scale=smoke", f"results_dir={tmp_path}/results", f"data_dir={tmp_path}"]
    idx = ["data=idx", f"data.root={digits}"]
    return {
        **{task: [f"task={task}", *common] for task in TASKS},  # tasks without a data set
        "mnist": ["task=mnist", *idx, *common],
        "permuted_mnist": ["task=permuted_mnist", *idx, *common],
        "convnet": ["task=convnet", *idx, *common],
        "order_embeddings": ["task=order_embeddings", "data=karpathy", "data.set=tiny", f"data.root={captioned}", *common],
        "question_answering": ["task=question_answering", "data=cnn", f"data.root={asked}", *common],
        "handwriting": ["task=handwriting", "data=iam_ondb", f"data.root={penned}", *common],
        "skip_thoughts": ["task=skip_thoughts", "data=books", "data.set=tales", f"data.root={storied}", *common],
        "draw": ["task=draw", "data=binarized_mnist", f"data.root={binary_digits}", *common],
    }


@pytest.fixture
def smoke(smoke_of: dict[str, list[str]]) -> list[str]:
    """Those of one task, for tests that are about runs and not about tasks."""
    return smoke_of["mnist"]
