"""Skip-thoughts: the whole model against a slow transcription, its start, its measures, and the probes of its encoder."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lnexp.tasks.skip_thoughts.probes
from lnexp.config import compose, make_norm, make_task
from lnexp.data import sentence_eval
from lnexp.data.sentence_eval import Labelled
from lnexp.data.text.vocabulary import END
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.nn import GRU
from lnexp.seeding import seed_everything
from lnexp.tasks.skip_thoughts.task import SkipThoughts, SkipThoughtsNet
from lnexp.training import run
from tests.conftest import script


@pytest.fixture
def overrides(smoke_of: dict[str, list[str]]) -> list[str]:
    return smoke_of["skip_thoughts"]


def made(overrides: list[str], *more: str) -> tuple[SkipThoughts, SkipThoughtsNet]:
    cfg = compose([*overrides, *more])
    task = make_task(cfg, "cpu")
    assert isinstance(task, SkipThoughts)
    seed_everything(0, "init")
    return task, task.build(make_norm(cfg))


def step(rnn: GRU, x_I: Tensor, h_H: Tensor) -> Tensor:
    """One step of a GRU for one case, by equations (23) to (28)."""
    w, H = rnn.weights("l0"), rnn.hidden_size
    assert w.bias_ih is not None and w.bias_hh is not None

    def normed(a_G: Tensor, gain_G: Tensor | None, bias_G: Tensor) -> Tensor:
        if gain_G is None:
            return a_G + bias_G
        parts = [(p - p.mean()) / (p.var(correction=0) + 1e-5).sqrt() for p in (a_G[: 2 * H], a_G[2 * H :])]
        return torch.cat(parts) * gain_G + bias_G

    in_G, state_G = normed(w.weight_ih @ x_I, w.gain_ih, w.bias_ih), normed(w.weight_hh @ h_H, w.gain_hh, w.bias_hh)
    r_H, z_H = (in_G + state_G)[: 2 * H].sigmoid().split(H)
    n_H = (in_G[2 * H :] + r_H * state_G[2 * H :]).tanh()
    return (1 - z_H) * n_H + z_H * h_H


def transcribed(model: SkipThoughtsNet, batch: dict[str, Tensor]) -> Tensor:
    """The loss, one sentence and one word after the other."""
    words, zero = model.encoder.embedding.weight, torch.zeros(model.encoder.rnn.hidden_size, dtype=torch.float64)
    loss = torch.zeros((), dtype=torch.float64)
    for b, length in enumerate(batch["source_lengths_B"]):
        read_H = zero
        for number in batch["source_TB"][:length, b]:
            read_H = step(model.encoder.rnn, words[number], read_H)
        for rnn, told, lengths in (
            (model.before, batch["before_SB"], batch["before_lengths_B"]),
            (model.after, batch["after_RB"], batch["after_lengths_B"]),
        ):
            h_H, x_D = read_H, torch.zeros_like(words[0])
            for number in told[: lengths[b], b]:
                h_H = step(rnn, torch.cat([x_D, read_H]) if model.condition_every_step else x_D, h_H)
                loss = loss - F.log_softmax(model.output(h_H), dim=0)[number]
                x_D = words[number]
    return loss


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("every_step", ["false", "true"])
@pytest.mark.parametrize("order", ["equal_length", "bucketed"])
def test_loss_and_gradients_equal_a_slow_transcription(norm: str, every_step: str, order: str, overrides: list[str]) -> None:
    task, model = made(overrides, f"norm={norm}", f"task.condition_every_step={every_step}", f"task.order={order}")
    model = model.double()
    with torch.no_grad():  # no gain 1 and no bias 0, behind which a mistake could hide
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    batch = task.batches("train", 6, seed=1)[3]
    assert len(set(batch["before_lengths_B"].tolist())) > 1
    loss, wanted = task.loss(model, batch), transcribed(model, batch)
    torch.testing.assert_close(loss, wanted)
    parameters = dict(model.named_parameters())
    got = torch.autograd.grad(loss, list(parameters.values()))
    right = torch.autograd.grad(wanted, list(parameters.values()))
    for name, a, b in zip(parameters, got, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=name)


def test_the_start_is_as_described(overrides: list[str]) -> None:
    """Recurrent matrices orthogonal gate by gate, other weights uniform within 0.1, biases 0, two decoders of their own."""
    _, model = made(overrides, "norm=none")
    hidden = model.encoder.rnn.hidden_size
    for rnn in (model.encoder.rnn, model.before, model.after):
        for gate in rnn.weight_hh_l0.detach().split(hidden):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(hidden), atol=1e-5, rtol=0)
        assert not rnn.bias_ih_l0.any() and not rnn.bias_hh_l0.any()
    assert not model.output.bias.any()
    for weight in (model.encoder.embedding.weight, model.output.weight, model.before.weight_ih_l0):
        assert 0.09 < weight.abs().max() <= 0.1
        assert abs(weight.std().item() - 0.1 / math.sqrt(3)) < 0.005
    assert not torch.equal(model.before.weight_hh_l0, model.after.weight_hh_l0)


def test_the_papers_sizes(storied: Path, tmp_path: Path) -> None:
    cfg = compose(["task=skip_thoughts", "scale=paper", "data=bookcorpus", "data.root=/nowhere"])
    assert (cfg.task.hidden_size, cfg.task.word_size, cfg.task.vocabulary_size, cfg.task.max_words) == (2400, 620, 20000, 30)
    assert (cfg.optimizer.lr, cfg.clip_norm, cfg.batch_size, cfg.eval_every) == (0.0002, 5.0, 64, 50000)


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_measures_by_hand(norm: str, overrides: list[str]) -> None:
    """Nats a word over all validation triplets, whatever the batches."""
    task, model = made(overrides, f"norm={norm}", "task.valid_triplets=null")
    model.eval()
    total, words = 0.0, 0
    for batch in task.batches("valid", 7):
        h_NH, target_N = model(batch)
        total += F.cross_entropy(model.output(h_NH).double(), target_N, reduction="sum").item()
        words += len(target_N)
        assert (target_N == END).sum() == 2 * len(batch["source_lengths_B"])
    measured = task.likelihood(model)
    assert measured["nll"] == pytest.approx(total / words, rel=1e-5)
    assert measured["perplexity"] == pytest.approx(math.exp(total / words), rel=1e-4)
    with torch.no_grad():
        model.output.weight.zero_()
    assert task.likelihood(model)["perplexity"] == pytest.approx(len(task.prose.vocabulary), rel=1e-5)


def test_only_training_rounds_its_products(overrides: list[str]) -> None:
    task, model = made(overrides, "task.softmax_products=bfloat16")
    exact, _ = made(overrides)
    batch = task.batches("train", 16, seed=0)[0]
    loss = {mode: task.loss(model.train(mode), batch).item() for mode in (True, False)}
    assert loss[False] == exact.loss(model, batch).item()
    assert loss[True] != loss[False]
    assert loss[True] == pytest.approx(loss[False], rel=1e-3)


def test_recurrent_products_are_rounded_everywhere(overrides: list[str]) -> None:
    task, model = made(overrides, "task.recurrent_products=bfloat16")
    exact, plain = made(overrides)
    plain.load_state_dict(model.state_dict())
    batch = task.batches("train", 16, seed=0)[0]
    assert {layer.cell.products for layer in (model.encoder.rnn, model.before, model.after)} == {"bfloat16"}
    loss, exactly = task.loss(model, batch).item(), exact.loss(plain, batch).item()
    assert loss != exactly and loss == pytest.approx(exactly, rel=1e-3)


def test_validation_triplets_are_spread_over_all(overrides: list[str]) -> None:
    whole = made(overrides, "task.valid_triplets=null")[0].prose.triplets["valid"]
    few = made(overrides, "task.valid_triplets=10")[0].prose.triplets["valid"]
    assert 5 <= len(few) <= 10 < len(whole)
    assert set(few) <= set(whole)
    assert few[-1] > whole[len(whole) * 3 // 4]


def test_batch_norm_takes_its_statistics_from_sentences_of_all_lengths(overrides: list[str]) -> None:
    task, _ = made(overrides)
    batches = task.batches("train", 64)
    first, again = batches[0], task.batches("train", 64)[0]
    assert torch.equal(first["source_TB"], again["source_TB"])
    assert len(batches) > 15
    seen = {length for k in range(10) for length in batches[k]["source_lengths_B"].tolist()}
    assert seen == {3, 4, 5, 6}


def test_only_what_can_be_measured_is_declared(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sets no probes; with some, their curves, and measures of vectors that come from the encoder."""
    task, _ = made(overrides)
    assert [e.name for e in task.evaluations()] == ["valid"]
    assert [c.metric for c in task.curves] == ["valid/nll"]

    sentences = [["the", animal, deed] for animal in ("cat", "dog") for deed in ("runs", "sleeps", "sings", "hides")] * 10
    told = Labelled(sentences, np.array([s[1] == "cat" for s in sentences], np.int64))
    monkeypatch.setattr(sentence_eval, "load", lambda root, data_dir: {"mr": told})
    task, model = made(overrides, "task.probes=package")
    evaluations = {e.name: e for e in task.evaluations()}
    assert [(e.name, e.when) for e in evaluations.values()] == [
        ("valid", ("during",)),
        ("probes", ("start", "during")),
        ("means", ("end",)),
        ("words", ("end",)),
    ]
    assert [c.metric for c in task.curves] == ["valid/nll", "probes/mr_accuracy"]
    measured = evaluations["probes"].measure(model.eval())
    assert measured["mr_accuracy"] > 99  # cats and dogs are two words, and each sentence is there ten times
    assert evaluations["means"].measure(model)["mr_accuracy"] > 99
    assert evaluations["words"].measure(model) == {"mr_accuracy": 100, "mr_accuracy_sd": 0}
    monkeypatch.setattr(lnexp.tasks.skip_thoughts.probes, "accuracies", None)
    assert evaluations["words"].measure(model) == {"mr_accuracy": 100, "mr_accuracy_sd": 0}  # counted once


def test_means_are_those_of_the_words_embeddings(overrides: list[str]) -> None:
    encoder = made(overrides)[1].encoder
    sentences = [["the", "cat"], ["zebra"], ["dog", "the", "dog"]]
    the, cat, dog, unknown = (
        encoder.embedding.weight[encoder.vocabulary.encode([w], end=False)[0]] for w in ("the", "cat", "dog", "?")
    )
    wanted = torch.stack([(the + cat) / 2, unknown, (2 * dog + the) / 3]).detach()
    np.testing.assert_allclose(encoder.means(sentences), wanted, atol=1e-6)


def test_the_untrained_encoder_is_probed_first_and_references_last(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = Labelled([["the", "cat"], ["a", "dog"]] * 20, np.array([0, 1] * 20, np.int64))
    monkeypatch.setattr(sentence_eval, "load", lambda root, data_dir: {"mr": told})
    cfg = compose(
        [*overrides, "task.probes=package", "max_updates=4", "eval_every=2", f"results_dir={tmp_path}", "wandb.mode=disabled"]
    )
    run.run(cfg)
    rows = pd.read_csv(run_folder(cfg) / "metrics.csv")
    steps = rows[rows["metric"] == "mr_accuracy"].groupby("split")["step"].agg(list).to_dict()
    assert steps == {"probes": [0, 2, 4], "means": [4], "words": [4]}


def frame_of(norms: dict[str, float]) -> pd.DataFrame:
    """Two seeds a norm: an encoder at 50 and .4, better by its norm's gain once trained, and the references."""
    rows = []
    for norm, gain in norms.items():
        for seed in (0, 1):
            common = {"id": f"{norm}{seed}", "seed": seed, "norm.name": norm, "scale": "desk", "data": "made up"}
            common |= {"task.probes": "senteval", "max_updates": 9}
            values = {(0, "probes/mr_accuracy"): 50.0, (9, "probes/mr_accuracy"): 60 + gain + seed}
            values |= {(0, "probes/sick_pearson"): 0.4, (9, "probes/sick_pearson"): 0.5 + gain / 100 + seed / 100}
            values |= {(9, "means/mr_accuracy"): 70 + gain, (9, "words/mr_accuracy"): 80.0, (9, "valid/nll"): 4 - gain}
            rows += [{**common, "step": step, "metric": metric, "value": value} for (step, metric), value in values.items()]
    return pd.DataFrame(rows)


def test_figure_3_starts_untrained_and_shows_what_needs_no_encoder() -> None:
    axes = script("figures/fig3_skip_thoughts.py").draw(frame_of({"none": 0.0, "ln": 2.0})).axes
    mr = next(ax for ax in axes if ax.get_title() == "MR: ours")
    levels = [line.get_ydata()[0] for line in mr.get_lines() if line.get_linestyle() == ":"]
    assert levels == [72.0, 70.0, 80.0]  # ln, none, counts of words
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in mr.get_lines()]
    assert ([0, 9], [50, 62.5]) in drawn  # the mean over seeds of layer normalisation
    sick = next(ax for ax in axes if ax.get_title().startswith("SICK, Pearson"))
    assert max(sick.get_lines()[0].get_ydata()) == pytest.approx(50)  # as the paper's axis has it, times 100


def test_table_3_has_the_papers_rows_and_ours() -> None:
    lines = script("figures/table3_skip_thoughts.py").draw(frame_of({"none": 0.0, "ln": 2.0})).splitlines()
    rows = {cells[1].strip(): [c.strip() for c in cells[2:-1]] for cells in (line.split("|") for line in lines[2:])}
    assert rows["Ours + LN, paper"][:4] == ["0.854", "0.785", "0.277", "79.5"]
    mr = {name: row[3] for name, row in rows.items() if "paper" not in name}
    assert mr["layer norm (n=2)"].startswith("62.5 ± 6.4")  # 12.7 * sd / sqrt 2
    assert mr["layer norm (n=2), untrained"] == "50.0 ± 0.0"
    assert mr["layer norm (n=2), mean of its embeddings"] == "72.0 ± 0.0"
    assert mr["counts of words"] == "80.0"
    assert rows["no normalisation (n=2)"][0] == "0.505 ± 0.064"
    assert rows["counts of words"][0] == "-"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.order=equal_lengths", "task.order=equal_lengths: allowed are bucketed, equal_length; did you mean equal_length?"),
        ("task.probes=sentevl", "task.probes=sentevl: allowed are none, package, paper, senteval; did you mean senteval?"),
        ("task.probes=senteval", "task.probes=senteval: give data.eval_root=FOLDER, in SentEval's layout"),
        ("task.probes=paper", "task.probes=paper: give data.eval_root=FOLDER, in SentEval's layout"),
        ("task.softmax_products=half", "task.softmax_products=half: allowed are bfloat16, float32"),
        ("task.hidden_size=0", "task.hidden_size=0: must be a whole number, 1 or more"),
        ("task.valid_triplets=0", "task.valid_triplets=0: must be a whole number, 1 or more, or null"),
        ("task.max_words=2", "no three neighbouring sentences of fewer than 2 words"),
    ],
)
def test_wrong_values_are_named(override: str, says: str, overrides: list[str]) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        make_task(compose([*overrides, override]), "cpu")
