"""Convolutional nets (section 6.7).

The training NLL is compared on its logarithm, as in section 6.6. 859 updates an epoch on MNIST.
"""

from lnexp.evidence.claims.base import FIRST, SPEED, Claim, Section, arm
from lnexp.evidence.effects import Better, Faster, Reaches

ERROR = 0.002  # SD of the test error on MNIST over the last fifth of a trial run without normalisation (seed 100)
ERROR_IMAGES = 0.02  # the smallest difference between two seeds in trials on CIFAR-10 (0.02 to 0.05)
RATIO = 0.05  # of a ratio of border to inside: a tenth of "half as often", a quarter of "a fifth less"

CLAIMS = (
    Claim(
        "6.7a",
        "section 6.7",
        "Convolutional net: layer normalisation trains faster than no normalisation.",
        "convnet",
        Faster("train/nll", "lower", log=True),
        (arm("ln", 64), arm("none", 64)),
        FIRST,
        SPEED,
    ),
    Claim(
        "6.7b",
        "section 6.7",
        "Convolutional net: batch normalisation ends with a lower test error than layer normalisation.",
        "convnet",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("ln", 64)),
        FIRST,
        ERROR,
    ),
    Claim(
        "6.7c",
        "section 6.7",
        "Convolutional net: batch normalisation ends with a lower test error than no normalisation.",
        "convnet",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("none", 64)),
        FIRST,
        ERROR,
    ),
    Claim(
        "6.7d",
        "section 6.7",
        "Units near the boundary of the image are rarely on: at most half as often as the others, without normalisation.",
        "convnet",
        Reaches("border/on_ratio", "lower", value=0.5),
        (arm("none", 64),),
        FIRST,
        RATIO,
    ),
    Claim(
        "6.7e",
        "section 6.7",
        "Units near the boundary have other statistics than the rest of their layer: summed inputs spread at least a fifth less, "
        "without normalisation.",
        "convnet",
        Reaches("border/spread_ratio", "lower", value=0.8),
        (arm("none", 64),),
        FIRST,
        RATIO,
    ),
    Claim(
        "6.7a-images",
        "section 6.7",
        "Convolutional net on photographs: layer normalisation trains faster than no normalisation.",
        "convnet_images",
        Faster("train/nll", "lower"),
        (arm("ln", 64), arm("none", 64)),
        FIRST,
        SPEED,
    ),
    Claim(
        "6.7b-images",
        "section 6.7",
        "Convolutional net on photographs: batch normalisation ends with a lower test error than layer normalisation.",
        "convnet_images",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("ln", 64)),
        FIRST,
        ERROR_IMAGES,
    ),
    Claim(
        "6.7c-images",
        "section 6.7",
        "Convolutional net on photographs: batch normalisation ends with a lower test error than no normalisation.",
        "convnet_images",
        Better("test/error", "lower"),
        (arm("bn", 64), arm("none", 64)),
        FIRST,
        ERROR_IMAGES,
    ),
    Claim(
        "6.7d-images",
        "section 6.7",
        "On photographs, too, units near the boundary are on at most half as often as the others, without normalisation.",
        "convnet_images",
        Reaches("border/on_ratio", "lower", value=0.5),
        (arm("none", 64),),
        FIRST,
        RATIO,
    ),
    Claim(
        "6.7e-images",
        "section 6.7",
        "On photographs, too, summed inputs near the boundary spread at least a fifth less than in the rest of their layer.",
        "convnet_images",
        Reaches("border/spread_ratio", "lower", value=0.8),
        (arm("none", 64),),
        FIRST,
        RATIO,
    ),
    Claim(
        "6.7-instance",
        "extension of section 6.7",
        "Layer normalisation over all units of a layer ends with a lower test error than over the positions of each channel "
        "(instance statistics).",
        "convnet_statistics",
        Better("test/error", "lower"),
        (arm("ln", 64, **{"task.statistics": "map"}), arm("ln", 64, **{"task.statistics": "instance"})),
        FIRST,
        ERROR,
        extension=True,
    ),
    Claim(
        "6.7-position",
        "extension of section 6.7",
        "Layer normalisation over all units of a layer ends with a lower test error than over the channels at each position.",
        "convnet_statistics",
        Better("test/error", "lower"),
        (arm("ln", 64, **{"task.statistics": "map"}), arm("ln", 64, **{"task.statistics": "position"})),
        FIRST,
        ERROR,
        extension=True,
    ),
)

SECTION = Section(
    "6.7",
    "Convolutional networks",
    "Layer normalisation is faster than none; batch normalisation outperforms both.",
    "a net of our own with six layers, three epochs (desk scale); the paper shows none",
    "The paper shows no network, data or number; one learning rate for all norms.",
    CLAIMS,
    task="convnet",
)
