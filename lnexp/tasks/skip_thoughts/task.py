"""Skip-thoughts: a sentence is read by one GRU, and two others tell its neighbours from what was read (paper section 6.3).

Shapes: B batch; T, S, R words of the longest sentence (source, before, after); D units of a word, H hidden, V words;
N all words to predict, those of both neighbours, without padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp.data import sentence_eval
from lnexp.data.batches import Batches
from lnexp.data.prose import prose_set as prose
from lnexp.data.prose.prose_set import prose_batches
from lnexp.data.text import word_vectors
from lnexp.errors import UserError, unknown
from lnexp.nn import GRU, Norm
from lnexp.nn.ops.cross_entropy import linear_cross_entropy
from lnexp.tasks.base import Batch, Curve, Share, Task
from lnexp.tasks.skip_thoughts.encoder import SentenceEncoder

FOLDER = {
    "senteval": "ridge",
    "paper": "adam",
}  # probes that need data.eval_root, and their fits on SICK, see `probes`
PROBES = ("none", "package", *FOLDER)
PRODUCTS = ("float32", "bfloat16")
SEED = 0  # of the one fixed order in which batch normalisation reads training triplets for its statistics


class SkipThoughts(Task):
    """Telling the sentence before and the sentence after.

    Args:
        vocabulary_size: words that have a number, END and UNKNOWN among them (public code: 20,000).
        max_words: all sentences are shorter than this (public code: 30).
        word_size: units of a word's embedding (public code: 620).
        hidden_size: units of the encoder and of each decoder (paper: 2400).
        condition_every_step: the decoders see the sentence's vector at every step (Kiros et al.), and not in their first state
            alone (public code, paper).
        order: equal_length | bucketed, see `lnexp.data.prose.prose_set.prose_batches`.
        valid_triplets: validate on so many triplets at most, spread over all; None for all.
        probes: what the encoder is judged on: paper (the folder data.eval_root, as by the authors) | senteval (the same, but SICK
            by fits under ridges, which give a lower r) | package (stand-ins for MR, CR and TREC from a published package) | none.
        expand_vocabulary: for the probes, guess words that the encoder does not know from published vectors.
        softmax_products: float32 | bfloat16, the numbers that training multiplies in the layer over all words; bfloat16 takes
            half its time on processors that have it, see `lnexp.nn.ops.cross_entropy.linear_cross_entropy`.
    """

    name = "skip_thoughts"
    revision = 1
    starts: ClassVar[tuple[str, ...]] = ("probes",)
    splits: ClassVar[tuple[str, ...]] = ("valid", "probes")
    finals: ClassVar[tuple[str, ...]] = ("means", "words")
    calibration = (40, 64)
    paper_data = ("bookcorpus",)
    curves: ClassVar[tuple[Curve, ...]] = (
        Curve("valid/nll", "validation NLL (nats a word)", "lower", "section 6.3"),
        Curve("probes/sick_pearson", "SICK, Pearson's r", "higher", "Figure 3"),
        Curve("probes/sick_mse", "SICK, mean squared error", "lower", "Figure 3"),
        Curve("probes/mr_accuracy", "MR, accuracy (%)", "higher", "Figure 3"),
        Curve("probes/cr_accuracy", "CR, accuracy (%)", "higher", "Figure 3"),
        Curve("probes/subj_accuracy", "SUBJ, accuracy (%)", "higher", "Figure 3"),
        Curve("probes/mpqa_accuracy", "MPQA, accuracy (%)", "higher", "Figure 3"),
        Curve("probes/trec_accuracy", "TREC, accuracy (%)", "higher", "extension"),
    )
    differences = (
        "The paper trains on BookCorpus (data=bookcorpus), which its makers no longer give out. The runs here are on the World "
        "English Bible and BBC articles, or on novels (data=books): norms can be compared with one another, levels not with the "
        "paper's.",
        "At desk scale the encoder has 300 units, words 150, the vocabulary 5,000 words, Adam a rate of 2e-3, and runs end after "
        "1,500 updates; the paper: 2400, 620, 20,000, 2e-4, 1,000,000.",
        "Batches of 64 and clipping at 5 are those of the public code that the paper names; Kiros et al. write 128 and 10.",
        "The runs on novels (fig3_books) have 600 units, words of 300, all 20,000 words, a rate of 1e-3 and 2,000 updates; in "
        "training, the layer over all words multiplies numbers rounded to bfloat16, which takes half the time where the "
        "processor has instructions for it. Their seed 4 ran on one without: there products were not rounded again.",
        "Adam corrects its bias as published; the public code's slip is optimizer.name=adam_slip.",
        "The plain GRU has torch's second bias, inside the reset gate's product, which the public code lacks.",
        "Without the evaluation sets of a folder, MR, CR and TREC are stand-ins from a published package, and SICK, SUBJ and "
        "MPQA are missing. The encoder sees no end token on SICK, where the public code adds one.",
        "The runs on novels judge SICK by a regression fitted exactly, under ridges that fall until the development pairs are "
        "told no better (task.probes=senteval); the authors fit it by Adam without a ridge. Of the encoders of seed 4, LN's r is "
        ".696 that way and .710 the authors', the plain one's .639 and .649. task.probes=paper does as the authors do in a fifth "
        "of their steps: .709 and .649.",
        "Where task.expand_vocabulary=true, unknown words are guessed from GloVe's vectors of 50 numbers; the paper's are 300 of "
        "word2vec.",
        "A run in several processes averages their gradients, so that clipping sees the sum over one process's triplets.",
    )

    def __init__(
        self,
        vocabulary_size: int,
        max_words: int,
        word_size: int,
        hidden_size: int,
        condition_every_step: bool,
        order: str,
        valid_triplets: int | None,
        probes: str,
        expand_vocabulary: bool,
        softmax_products: str,
        data: Mapping[str, Any],
        data_dir: Path,
        device: str,
    ) -> None:
        for key, value, allowed in (
            ("order", order, prose.ORDERS),
            ("probes", probes, PROBES),
            ("softmax_products", softmax_products, PRODUCTS),
        ):
            if value not in allowed:
                raise unknown(f"task.{key}", value, allowed)
        sizes = {"word_size": word_size, "hidden_size": hidden_size, "valid_triplets": valid_triplets, "max_words": max_words}
        for key, size in sizes.items():
            if size is not None and size < 1:
                raise UserError(f"task.{key}={size}: must be 1 or more")
        if probes in FOLDER and data.get("eval_root") is None:
            raise UserError(f"task.probes={probes}: give data.eval_root=FOLDER, in SentEval's layout")
        self.max_words, self.word_size, self.hidden_size = max_words, word_size, hidden_size
        self.condition_every_step, self.order, self.device = condition_every_step, order, device
        self.bfloat16 = softmax_products == "bfloat16"
        self.prose = prose.load(data, data_dir, vocabulary_size, max_words)
        valid = self.prose.triplets["valid"]
        every = math.ceil(len(valid) / (valid_triplets or len(valid)))
        self.prose = replace(self.prose, triplets=self.prose.triplets | {"valid": valid[::every]})
        root = data["eval_root"] if probes in FOLDER else None
        self.sets = {} if probes == "none" else sentence_eval.load(root, data_dir)
        self.relatedness = FOLDER.get(probes, "adam")
        self.published = word_vectors.load(data_dir) if expand_vocabulary and self.sets else None
        self.data_dir = data_dir
        # Only what can be measured is declared.
        prefixes = ("valid/", *(f"probes/{name}_" for name in self.sets))
        if not self.sets:
            self.starts, self.splits, self.finals = (), ("valid",), ()  # type: ignore[misc]
        self.curves = tuple(c for c in SkipThoughts.curves if c.metric.startswith(prefixes))  # type: ignore[misc]

    def build(self, norm: Norm) -> SkipThoughtsNet:
        return SkipThoughtsNet(self, norm)

    def batches(self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, share: Share = (0, 1)) -> Batches:
        """Batches of triplets. Training triplets without a seed come in a fixed order in which all lengths are mixed."""
        if seed is None and split == "train":
            batch_size = min(batch_size, len(self.prose.triplets["train"]))
            return prose_batches(self.prose, split, batch_size, SEED, epoch, share, self.device, "bucketed")
        return prose_batches(self.prose, split, batch_size, seed, epoch, share, self.device, self.order)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """-log p of all words of both neighbours and their ends, summed over the batch (public code)."""
        assert isinstance(model, SkipThoughtsNet)
        h_NH, target_N = model(batch)
        rounded = self.bfloat16 and model.training
        return linear_cross_entropy(h_NH, model.output.weight, model.output.bias, target_N, bfloat16=rounded)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """valid: nll, in nats a word with ends counted, and perplexity. probes: see `lnexp.tasks.skip_thoughts.probes.evaluate`.

        Two splits hold what the probes are to be read beside: means, the same of the mean embedding of a sentence's words, and
        words, what counts of words reach without any vectors.
        """
        assert isinstance(model, SkipThoughtsNet)
        if split != "valid":
            from joblib import Memory

            from lnexp.tasks.skip_thoughts import probes  # here, as scikit-learn takes its time to import

            if split == "words":  # of no model, so once for all runs
                return Memory(self.data_dir / "words", verbose=0).cache(probes.bag_of_words)(self.sets)
            encode = {"probes": model.encoder.vectors, "means": model.encoder.means}[split]
            return probes.evaluate(partial(encode, published=self.published), self.sets, relatedness=self.relatedness)
        nll, words = 0.0, 0
        batches = self.batches(split, batch_size=128)
        for batch in (batches[k] for k in range(len(batches))):
            nll += self.loss(model, batch).item()
            words += int(batch["before_lengths_B"].sum() + batch["after_lengths_B"].sum())
        return {"nll": nll / words, "perplexity": math.exp(min(nll / words, 700.0))}


class SkipThoughtsNet(nn.Module):
    """A batch -> (h_NH, target_N): what the decoders say at each word of both neighbours, and the word that is wanted.

    All three GRUs share one embedding, both decoders one output layer. A decoder starts at the encoder's last state; it reads the
    word before the wanted one, and a vector of zeros in front of the first (public code).
    """

    def __init__(self, task: SkipThoughts, norm: Norm) -> None:
        super().__init__()
        vocabulary, word, hidden = task.prose.vocabulary, task.word_size, task.hidden_size
        inputs = word + hidden if task.condition_every_step else word
        self.condition_every_step = task.condition_every_step
        self.encoder = SentenceEncoder(vocabulary, word, hidden, task.max_words, norm)
        self.before = GRU(inputs, hidden, norm=norm, max_t=task.max_words)
        self.after = GRU(inputs, hidden, norm=norm, max_t=task.max_words)
        self.output = nn.utils.skip_init(nn.Linear, hidden, len(vocabulary))

        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)
        for rnn in (self.encoder.rnn, self.before, self.after):
            rnn.assign("weight_ih_l0", torch.empty(3 * hidden, rnn.input_size).uniform_(-0.1, 0.1))
            rnn.assign("weight_hh_l0", torch.cat([nn.init.orthogonal_(torch.empty(hidden, hidden)) for _ in range(3)]))
            nn.init.zeros_(rnn.get_parameter("bias_ih_l0"))
            nn.init.zeros_(rnn.get_parameter("bias_hh_l0"))
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        read_1BH = self.encoder(batch["source_TB"], batch["source_lengths_B"])
        before_NH, before_N = self.decode(self.before, read_1BH, batch["before_SB"], batch["before_lengths_B"])
        after_NH, after_N = self.decode(self.after, read_1BH, batch["after_RB"], batch["after_lengths_B"])
        return torch.cat([before_NH, after_NH]), torch.cat([before_N, after_N])

    def decode(self, rnn: GRU, read_1BH: Tensor, words_SB: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The states of one decoder at all real words of its sentences, one after the other, and these words."""
        x_SBD = F.pad(self.encoder.embedding(words_SB[:-1]), (0, 0, 0, 0, 1, 0))
        if self.condition_every_step:
            x_SBD = torch.cat([x_SBD, read_1BH.expand(len(x_SBD), -1, -1)], dim=2)
        h_SBH, _ = rnn(x_SBD, read_1BH, lengths=lengths_B)
        real_M = (torch.arange(len(words_SB))[:, None] < lengths_B).flatten().nonzero()[:, 0].to(words_SB.device)
        return h_SBH.flatten(0, 1).index_select(0, real_M), words_SB.flatten()[real_M]
