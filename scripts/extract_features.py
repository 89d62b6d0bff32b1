"""Extract CNN features of pictures for image-sentence ranking (paper 6.1). After an interruption the same command continues.

Rows are in the order of the images of a dataset file in Karpathy's layout, or of the sorted file names. The paper's own features:

    scripts/extract_features.py FOLDER --dataset dataset_coco.json --backbone torchvision:vgg19 --views ten --out features.npy
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from lnexp import paths
from lnexp.data.captions.features import VIEWS, Backbone, efficientnet_lite0, extract
from lnexp.data.sources import read_gzipped
from lnexp.errors import UserError, unknown
from lnexp.script import script

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of torchvision's training pixels


def pictures_of(folder: Path, dataset: Path | None) -> list[Path]:
    """The pictures of a folder, in the order of the dataset's images or of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if dataset is None:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
        if not found:
            raise UserError(f"{folder}: no pictures in it ({', '.join(sorted(PICTURES))})")
        return found
    try:
        images = json.loads(read_gzipped(dataset).decode("utf-8-sig"))["images"]
        return [folder / image.get("filepath", "") / image["filename"] for image in images]
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--dataset={dataset}: not a dataset file of Karpathy's layout ({error!r})") from error


class Tapped(nn.Module):
    """A network that returns the output of one of its layers.

    Args:
        network: the classifier.
        layer: name of the module whose output is returned; None: the input of the last linear layer, which for VGG is fc7 after
            its ReLU (the paper's features). Outputs [B, D, H, W] are averaged over H and W.
    """

    def __init__(self, network: nn.Module, layer: str | None) -> None:
        super().__init__()
        self.network = network.eval()
        modules = dict(network.named_modules())
        if layer is None:
            last = [m for m in modules.values() if isinstance(m, nn.Linear)][-1]
            last.register_forward_pre_hook(lambda module, inputs: self.store(inputs[0]))
        elif layer in modules:
            modules[layer].register_forward_hook(lambda module, inputs, output: self.store(output))
        else:
            raise unknown("--layer", layer, (name for name in modules if name))

    def store(self, activations: Tensor) -> None:
        self.activations = activations

    def forward(self, x_B3HW: Tensor) -> Tensor:
        self.network(x_B3HW)
        return self.activations.mean(dim=(2, 3)) if self.activations.dim() == 4 else self.activations.flatten(1)


def torchvision_backbone(model: str, layer: str | None) -> Backbone:
    """A network of torchvision with its default weights, which torchvision downloads and verifies."""
    asked = f"--backbone=torchvision:{model}"
    try:
        from torchvision import models
    except ImportError as error:
        raise UserError(f"{asked}: torchvision is not installed (pip install torchvision)") from error
    except RuntimeError as error:  # another release of torch than torchvision was built for
        raise UserError(f"{asked}: the installed torchvision does not fit torch {torch.__version__} ({error})") from error
    if model not in (classifiers := models.list_models(module=models)):
        raise unknown("--backbone", f"torchvision:{model}", (f"torchvision:{name}" for name in classifiers))
    try:
        network = models.get_model(model, weights="DEFAULT")
    except (URLError, OSError) as error:
        raise UserError(f"{asked}: its weights cannot be downloaded ({error})") from error
    return Backbone(f"torchvision:{model}:{layer}", Tapped(network, layer), *IMAGENET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the pictures")
    parser.add_argument("--out", type=Path, required=True, help="the .npy file to write: float16, one row per picture")
    parser.add_argument("--dataset", type=Path, help="dataset.json[.gz] that gives the order (default: sorted names)")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="efficientnet_lite0 (default) or torchvision:MODEL")
    parser.add_argument("--layer", help="torchvision: module whose output is used (default: the input of the last linear layer)")
    parser.add_argument("--views", choices=VIEWS, default="center", help="one view, or the mean of ten (the paper)")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="such as cpu, cuda, cuda:1, mps")
    parser.add_argument("--data-dir", type=Path, default=paths.ROOT / "data", help="where downloads are stored")
    given = parser.parse_args()
    if given.batch_size < 1:
        raise UserError(f"--batch-size={given.batch_size}: must be 1 or more")
    try:
        torch.zeros(1, device=given.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device={given.device}: not on this machine ({str(error).splitlines()[0]})") from error
    pictures = pictures_of(given.folder, given.dataset)
    source, _, model = given.backbone.partition(":")
    if source == "torchvision":
        backbone = torchvision_backbone(model, given.layer)
    elif given.backbone != "efficientnet_lite0":
        raise unknown("--backbone", given.backbone, ["efficientnet_lite0", "torchvision:MODEL"])
    elif given.layer:
        raise UserError(f"--layer={given.layer}: only for torchvision's networks")
    else:
        backbone = efficientnet_lite0(given.data_dir)
    features = extract(pictures, backbone, given.out, given.views, given.device, given.batch_size)
    print(f"{given.out}: {features.shape[0]} pictures, {features.shape[1]} features each")


if __name__ == "__main__":
    sys.exit(script(main))
