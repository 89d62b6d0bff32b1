"""Order embeddings: loaders, batches, start, loss and evaluation."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from lnexp.checks import check
from lnexp.config import compose, make_norm, make_task
from lnexp.data.captions import caption_set as captions
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.nn import NORMS
from lnexp.seeding import seed_everything
from lnexp.tasks.order_embeddings.retrieval import ranks
from lnexp.tasks.order_embeddings.task import OrderEmbeddings, embed
from lnexp.training import load as trained
from lnexp.training.optim import AdamSlip
from lnexp.training.run import run
from lnexp.training.trainer import clipping
from tests.conftest import SHARED, call


def make(overrides: list[str]) -> OrderEmbeddings:
    task = make_task(compose(overrides), "cpu")
    assert isinstance(task, OrderEmbeddings)
    return task


@pytest.fixture
def overrides(smoke_of: dict[str, list[str]]) -> list[str]:
    return smoke_of["order_embeddings"]


def entry(split: str = "train", *captions: str) -> dict[str, Any]:
    return {"filename": f"{split}.jpg", "split": split, "sentences": [{"tokens": c.split()} for c in captions or ("a dog",)]}


def write(folder: Path, images: list[dict[str, Any]], features: np.ndarray | None = None, name: str = "dataset.json") -> Path:
    (folder / name).write_text(json.dumps({"dataset": "tiny", "images": images}))
    np.save(folder / "features.npy", np.ones((len(images), 3), np.float32) if features is None else features)
    return folder


def load(folder: Path, **data: Any) -> captions.CaptionSet:
    return captions.load({"name": "karpathy", "root": str(folder), "set": "tiny", "captions": None, **data}, folder)


THREE = [entry("train", "a dog", "it runs"), entry("restval"), entry("val"), entry("test")]


def test_karpathys_layout_is_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, THREE))
    assert [i.split for i in found.images] == ["train", "train", "valid", "test"]
    assert found.images[0].captions == [["a", "dog"], ["it", "runs"]]
    assert found.of("train").tolist() == [0, 1]
    packed = gzip.compress((tmp_path / "dataset.json").read_bytes())
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "dataset_tiny.json.gz").write_bytes(packed)
    assert load(tmp_path).images == found.images
    assert load(tmp_path, captions=1).images[0].captions == [["a", "dog"]]


@pytest.mark.parametrize(
    ("images", "features", "data", "says"),
    [
        (THREE, np.ones((3, 3)), {}, r"features.npy: float64 \[3, 3\], but there are 4 images"),
        (THREE, np.ones((4, 3), int), {}, r"features.npy: int64 \[4, 3\]"),
        (THREE, np.array([[1.0], [1], [np.nan], [1]]), {}, r"row 2 \(val.jpg\) holds NaN or infinity"),
        ([entry("validation")], None, {}, "split=validation: allowed are restval, test, train, val"),
        ([*THREE, entry("train", "a dog", "")], None, {}, "train.jpg: caption 2 has no words"),
        (THREE, None, {"captions": 2}, "restval.jpg: 1 captions, at least 2 are needed"),
        (THREE[:2], None, {}, "no image is in the split valid"),
        (THREE, None, {"set": "coco"}, "data.set=coco: dataset.json says that it is tiny"),
        ([{"filename": "x"}], None, {}, "dataset.json: not in the layout"),
        (THREE, None, {"name": "karpati"}, "data=karpati: allowed are coco, emoji, karpathy; did you mean karpathy"),
    ],
)
def test_what_does_not_fit_is_named(images: list, features: Any, data: dict, says: str, tmp_path: Path) -> None:
    folder = write(tmp_path, images, features)
    with pytest.raises(UserError, match=says) as caught:
        load(folder, **data)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"features.npy.* is missing"):
        load(tmp_path)
    write(tmp_path, THREE)
    (tmp_path / "dataset_2.json").write_text("{}")
    with pytest.raises(UserError, match=r"found dataset.json, dataset_2.json; there must be one"):
        load(tmp_path)
    (tmp_path / "dataset_2.json").unlink()
    (tmp_path / "features.npy").write_bytes(b"not an array")
    with pytest.raises(UserError, match=r"features.npy: not an array of numbers"):
        load(tmp_path)


@pytest.mark.skipif(not (SHARED / "flickr8k").exists(), reason="Flickr8k is not at hand")
def test_flickr8k_is_read() -> None:
    root = SHARED / "flickr8k"
    found = captions.load({"name": "karpathy", "root": root, "set": "flickr8k", "captions": None}, root)
    assert {split: len(found.of(split)) for split in ("train", "valid", "test")} == {"train": 6000, "valid": 1000, "test": 1000}
    assert {len(image.captions) for image in found.images} == {5}
    assert found.features_ID.shape == (8000, 1280)


def test_batches_follow_from_seed_and_epoch(overrides: list[str]) -> None:
    task = make(overrides)
    first, again = task.batches("train", 16, seed=1, epoch=2), task.batches("train", 16, seed=1, epoch=2)
    for k in range(len(first)):
        assert all(torch.equal(first[k][name], again[k][name]) for name in first[k])
    other = task.batches("train", 16, seed=1, epoch=3)
    assert not torch.equal(first[0]["features_BF"], other[0]["features_BF"])
    seen = np.concatenate(first.index_batches)
    assert len(seen) == len(set(seen.tolist())) == len(task.data["train"]) // 16 * 16
    words = [{tuple(column) for k in range(len(of)) for column in of[k]["words_TB"].t().tolist()} for of in (first, other)]
    assert words[0] != words[1]  # captions are drawn anew


def test_buckets_pad_less(overrides: list[str]) -> None:
    def padding(*more: str) -> float:
        batches = make([*overrides, *more]).batches("train", 8, seed=0)
        total = [(int(b["lengths_B"].sum()), b["words_TB"].numel()) for b in (batches[k] for k in range(len(batches)))]
        return 1 - sum(t[0] for t in total) / sum(t[1] for t in total)

    assert padding("task.bucketing=true") < 0.5 * padding()


def test_a_batch_is_an_image_with_its_own_caption(overrides: list[str]) -> None:
    task = make(overrides)
    batch, batches = task.batches("train", 8, seed=0)[1], task.batches("train", 8, seed=0)
    assert batch["features_BF"].norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    for b, image in enumerate(batches.index_batches[1]):
        row = task.set.images[task.data["train"].rows_I[image]]
        words = [task.vocabulary.words[n] for n in batch["words_TB"][: batch["lengths_B"][b], b]]
        assert words[-1] == "<end>"
        assert words[:-1] in row.captions


def test_the_vocabulary_has_no_words_of_the_test_captions(tmp_path: Path, overrides: list[str]) -> None:
    images = [entry("train", "a"), entry("val", "b"), entry("test", "c")]
    task = make([*overrides, f"data.root={write(tmp_path, images)}"])
    assert task.vocabulary.words == ["<end>", "<unk>", "a", "b"]
    assert task.data["test"].words[0].tolist() == [1, 0]


@pytest.mark.parametrize("objective", ["order", "symmetric"])
def test_the_loss_is_the_papers_sum_over_wrong_pairs(objective: str, overrides: list[str]) -> None:
    task = make([*overrides, f"task.objective={objective}"])
    seed_everything(0, "init")
    model = task.build(make_norm(compose(overrides))).double()
    batch = task.batches("train", 6, seed=0)[0]
    batch["features_BF"] = batch["features_BF"].double()
    v, s = (x.detach().numpy() for x in model(**batch))

    def distance(i: int, c: int) -> float:
        return float((np.maximum(0, s[c] - v[i]) ** 2).sum()) if objective == "order" else -float(s[c] @ v[i])

    margin, images, captions = {"order": 0.05, "symmetric": 0.2}[objective], 0.0, 0.0
    for k in range(6):
        for other in range(6):
            if other != k:
                images += max(0, margin - distance(other, k) + distance(k, k))  # another image for this caption
                captions += max(0, margin - distance(k, other) + distance(k, k))  # another caption for this image
    loss, parts = task.loss(model, batch)
    assert loss.item() == pytest.approx(images + captions, rel=1e-9)
    assert {name: part.item() for name, part in parts.items()} == {
        "images": pytest.approx(images, rel=1e-9),
        "captions": pytest.approx(captions, rel=1e-9),
    }
    lengths = np.linalg.norm(v, axis=1), np.linalg.norm(s, axis=1)
    np.testing.assert_allclose(np.concatenate(lengths), 1)
    assert (min(v.min(), s.min()) >= 0) == (objective == "order")


def test_the_start_is_as_in_the_released_code(overrides: list[str]) -> None:
    task = make([*overrides, "task.hidden_size=16", "task.word_size=12"])
    model = task.build(make_norm(compose([*overrides, "norm=none"])))
    for gate in model.rnn.weight_hh_l0.detach().split(16):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(16), atol=1e-5, rtol=0)
    for weight in (model.embedding.weight, model.rnn.weight_ih_l0):
        assert weight.abs().max() <= 0.1
        assert weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.2)
    assert not any(b.any() for b in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0, model.image.bias))
    assert model.rnn.hidden_size == model.image.out_features == 16


@pytest.mark.parametrize("norm", list(NORMS))
def test_evaluation_is_that_of_embeddings_one_by_one(norm: str, overrides: list[str]) -> None:
    """Batches, buckets and folds change nothing."""
    task = make([*overrides, "task.fold_images=20"])
    seed_everything(0, "init")
    model = task.build(make_norm(compose([*overrides, f"norm={norm}"]))).eval()
    pairs, found = task.data["test"], []
    for first in range(0, len(pairs) // 20 * 20, 20):
        images = np.arange(first, first + 20)
        captions_ = np.concatenate([np.arange(pairs.first_I[i], pairs.first_I[i] + pairs.captions_I[i]) for i in images])
        with torch.no_grad():
            s = torch.cat([model.captions(*pairs.words.padded(captions_[c : c + 1])) for c in range(len(captions_))])
            v = torch.cat([model.images(pairs.features(images[i : i + 1], "cpu")) for i in range(20)])
        of = torch.tensor(np.repeat(np.arange(20), pairs.captions_I[images]))
        batched = embed(model, pairs, images, "cpu")
        torch.testing.assert_close(batched, (v, s, of), atol=1e-6, rtol=1e-5)
        image_rank_C, caption_rank_I = ranks(*batched, task.distances)
        found.append([100 * np.mean(image_rank_C < 5), caption_rank_I.mean() + 1])
    values = task.evaluate(model, "test")
    assert len(found) >= 2
    assert [values["image_recall_at_5"], values["caption_mean_rank"]] == pytest.approx(np.mean(found, axis=0).tolist())
    assert values["image_recall_sum"] == pytest.approx(sum(values[f"image_recall_at_{k}"] for k in (1, 5, 10)))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.objective=cosine", "task.objective=cosine: allowed are order, symmetric"),
        ("task.margin=0", "task.margin=0: must be a number above 0, or null"),
        ("task.hidden_size=0", "task.hidden_size=0: must be a whole number, 1 or more"),
    ],
)
def test_wrong_values_are_named(override: str, says: str, overrides: list[str]) -> None:
    with pytest.raises(UserError, match=says):
        make([*overrides, override])


def test_the_papers_scale_wants_the_papers_data() -> None:
    with pytest.raises(UserError, match="data=emoji: scale=paper of task=order_embeddings wants data=coco or karpathy"):
        check(compose(["task=order_embeddings", "scale=paper"]))
    check(compose(["task=order_embeddings", "scale=paper", "data=coco", "data.root=x"]))


def test_each_gradient_is_clipped_for_itself() -> None:
    model = nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.1)
    cfg = compose(["task=mnist", "clip_norm_each=2"])
    for group in clipping(model, cfg):
        nn.utils.clip_grad_norm_(*group)
    assert model.weight.grad.norm().item() == pytest.approx(2, rel=1e-5)
    assert model.bias.grad.tolist() == pytest.approx([0.1, 0.1])
    assert clipping(model, compose(["task=mnist"])) == []


def test_the_slip_is_that_of_the_released_code() -> None:
    """Against their update written out, and its step length under a constant gradient."""
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdamSlip([p], lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    b1, b2, m, v, expected = 0.1, 0.001, np.zeros(2), np.zeros(2), np.array([1.0, -2.0])
    random = np.random.default_rng(0)
    for t in range(1, 20):
        g = random.normal(size=2)
        m, v = b1 * g + (1 - b1) * m, b2 * g**2 + (1 - b2) * v
        expected -= 0.01 * (np.sqrt(1 - b2**t) / (1 - b1**t)) * m / (np.sqrt(v) + 1e-8)
        p.grad = torch.tensor(g)
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-10)

    q = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, at = AdamSlip([q], lr=1.0, betas=(0.9, 0.999), eps=1e-8), {}
    for t in range(1, 301):
        before, q.grad = q.item(), torch.ones_like(q)
        optimizer.step()
        at[t] = before - q.item()
    assert [at[t] for t in (1, 10, 100, 300)] == pytest.approx([3.5, 6.5, 3.2, 2.0], rel=0.03)


@pytest.fixture
def trained_run(overrides: list[str]) -> Path:
    """A run of a few seconds whose net knows the things from one another."""
    cfg = compose([*overrides, "norm=ln", "max_updates=90", "eval_every=90", "optimizer.lr=0.01"])
    summary = run(cfg)
    assert summary is not None
    assert summary["best"]["valid/image_recall_at_10"]["value"] > 50  # chance: 25
    return run_folder(cfg)


def test_a_trained_run_is_read_again(trained_run: Path, captioned: Path, tmp_path: Path) -> None:
    """The best weights, evaluated as at the end of the run; also where the data set has moved."""
    moved = tmp_path / "moved"
    shutil.copytree(captioned, moved)
    _, task, model = trained.load(trained_run, root=str(moved))
    again = task.evaluate(model, "test")
    final = json.loads((trained_run / "summary.json").read_text())["final"]
    assert {f"test/{name}": value for name, value in again.items()} == {k: v for k, v in final.items() if k.startswith("test/")}
    with pytest.raises(UserError, match="not the folder of a run"):
        trained.load(tmp_path)
    for weights in ("best.pt", "ckpt.pt"):
        (trained_run / weights).unlink()
    with pytest.raises(UserError, match="holds no readable"):
        trained.load(trained_run)


retrieve = partial(call, "scripts/demo/retrieve.py")


def test_a_page_shows_what_is_found(trained_run: Path, captioned: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    entries = json.loads((captioned / "dataset_tiny.json").read_text())["images"]
    for e in entries:
        if e["split"] == "test":
            PIL.Image.new("RGB", (40, 30), "red").save(pictures / e["filename"])
    out = tmp_path / "found.html"
    arguments = ["thing1 thing5 nonsense", "--image", "test0.jpg", "-n", 3, "--pictures", pictures, "--out", out]
    done = retrieve(trained_run, *arguments)
    assert done.returncode == 0, done.stderr
    assert "not in the vocabulary, therefore ignored: nonsense" in done.stderr
    page = out.read_text()
    assert page.count("data:image/jpeg") == 4
    assert page.count("<li>") == 3
    lines = done.stdout.splitlines()
    shown = [line for line in lines[1:4] if "thing1" in line or "thing5" in line]
    assert shown, lines[:4]  # the nearest images do show one of the things asked for
    distances = [float(line.split()[0]) for line in lines[1:4]]
    assert distances == sorted(distances)
    assert retrieve(trained_run, "thing1", "--out", out).returncode == 0
    assert '<div class="none">test' in out.read_text()  # no picture at hand: the name in its place


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "error: sentence=nonsense: none of its words is in the vocabulary"),
        (["--image", "tset1.jpg"], "error: --image=tset1.jpg: not in this split; did you mean test1"),
    ],
)
def test_what_cannot_be_searched_is_named(arguments: list[str], says: str, trained_run: Path, tmp_path: Path) -> None:
    done = retrieve(trained_run, *arguments, "--out", tmp_path / "x.html")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(says)
    assert "Traceback" not in done.stderr
