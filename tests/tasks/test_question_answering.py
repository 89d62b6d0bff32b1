"""The reader against its equations word by word, padding, BN-everywhere, the paper's start, measures, script and figures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lnexp.config import compose, make_norm, make_task
from lnexp.data.cloze.batches import ENTITY
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.nn import LSTM, NORMS
from lnexp.nn.norms import BatchDense
from lnexp.seeding import seed_everything
from lnexp.tasks.question_answering.answers import placed
from lnexp.tasks.question_answering.model import AttentiveReader, Encoder
from lnexp.tasks.question_answering.task import QuestionAnswering
from lnexp.training import run
from lnexp.training.trainer import evaluate
from tests.conftest import call


@pytest.fixture
def overrides(smoke_of: dict[str, list[str]]) -> list[str]:
    return smoke_of["question_answering"]


def made(*overrides: str) -> tuple[QuestionAnswering, AttentiveReader]:
    cfg = compose(list(overrides))
    task = make_task(cfg, "cpu")
    assert isinstance(task, QuestionAnswering)
    seed_everything(3, "init")
    model = task.build(make_norm(cfg))
    assert isinstance(model, AttentiveReader)
    return task, model


# --- the equations --------------------------------------------------------------------------------------------------------


def lstm_word_by_word(rnn: LSTM, name: str, x_TE: Tensor, h_H: Tensor) -> Tensor:
    w, c_H, out = rnn.weights(name), torch.zeros_like(h_H), []
    for x_E in x_TE:
        i, f, g, o = (w.weight_ih @ x_E + w.weight_hh @ h_H + w.bias_ih + w.bias_hh).chunk(4)
        c_H = f.sigmoid() * c_H + i.sigmoid() * g.tanh()
        h_H = o.sigmoid() * c_H.tanh()
        out.append(h_H)
    return torch.stack(out)


def encoded_word_by_word(encoder: Encoder, x_TE: Tensor) -> tuple[Tensor, Tensor]:
    ways = [lstm_word_by_word(encoder.rnn, "l0", x_TE, encoder.h0[0])]
    last = [ways[0][-1]]
    if encoder.rnn.bidirectional:
        ways.append(lstm_word_by_word(encoder.rnn, "l0_reverse", x_TE.flip(0), encoder.h0[1]).flip(0))
        last.append(ways[1][0])
    return torch.cat(ways, 1), torch.cat(last)


def read_word_by_word(m: AttentiveReader, passage_T: Tensor, question_S: Tensor) -> tuple[Tensor, Tensor]:
    """The equations at the top of the reader's file, for one question without padding or dropout, norm=none."""
    d_TD, _ = encoded_word_by_word(m.passage, m.embedding.weight[passage_T])
    _, q_D = encoded_word_by_word(m.question, m.embedding.weight[question_S])
    scores = []
    for d_D in d_TD:
        s = torch.zeros((), dtype=d_D.dtype) if m.B is None else (m.B.weight @ d_D) @ (m.B.weight @ q_D)
        if m.tanh_attention:
            s = m.w @ torch.tanh(m.W_dm[0].weight @ d_D + m.W_qm[0].weight @ q_D + m.b_m + s)
        scores.append(s)
    weights = [s.exp() for s in scores]
    alpha = [w / sum(weights) for w in weights]
    c_D = sum(a * d for a, d in zip(alpha, d_TD, strict=True))
    g_H = torch.tanh(m.W_cg[0].weight @ c_D + m.W_qg[0].weight @ q_D + m.W_dg[0].weight @ d_TD.mean(0) + m.b_g)
    return m.W_ga.weight @ g_H + m.b_a, torch.stack(alpha)


@pytest.mark.parametrize("both_ways", ["true", "false"])
@pytest.mark.parametrize("attention", [("tanh", "true"), ("tanh", "false"), ("bilinear", "true")], ids="-".join)
def test_the_reader_is_its_equations(attention: tuple[str, str], both_ways: str, overrides: list[str]) -> None:
    kind, use_dq_sims = attention
    form = [f"task.attention={kind}", f"task.use_dq_sims={use_dq_sims}", f"task.bidirectional={both_ways}", "task.dropout=0"]
    task, model = made(*overrides, "norm=none", *form)
    model.double()
    for p in model.parameters():  # larger than the start's, which would leave every tanh a straight line
        nn.init.normal_(p, std=0.5)
    batch = task.batches("train", 8, seed=0)[0]
    logits_BA, alpha_TB = model(batch)
    for b, (t, s) in enumerate(zip(batch["passage_lengths_B"], batch["question_lengths_B"], strict=True)):
        logits_A, alpha_T = read_word_by_word(model, batch["passage_TB"][:t, b], batch["question_SB"][:s, b])
        torch.testing.assert_close(logits_BA[b], logits_A)
        torch.testing.assert_close(alpha_TB[:t, b], alpha_T)
        assert (alpha_TB[t:, b] == 0).all()
    logits_BA.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("norm", list(NORMS))
def test_padding_is_never_read(norm: str, overrides: list[str]) -> None:
    """More of it, and other words in it, change nothing: neither a logit nor a batch's statistics."""
    task, model = made(*overrides, f"norm={norm}", "task.dropout=0")
    batch = task.batches("train", 16, seed=0)[0]
    padded = dict(batch)
    for text, lengths in (("passage_TB", "passage_lengths_B"), ("question_SB", "question_lengths_B")):
        longer = nn.functional.pad(batch[text], (0, 0, 0, 3))
        padded[text] = longer.where(torch.arange(len(longer))[:, None] < batch[lengths], 5)
    logits_BA, alpha_TB = model(batch)
    again_BA, longer_TB = model(padded)
    torch.testing.assert_close(again_BA, logits_BA)
    torch.testing.assert_close(longer_TB[: len(alpha_TB)], alpha_TB)


def test_dropout_is_on_words_and_before_the_answer_and_off_in_evaluation(overrides: list[str]) -> None:
    task, model = made(*overrides, "norm=none", "task.dropout=0.5")
    batch = task.batches("train", 16, seed=0)[0]
    (words_TBE,) = model.words(batch["passage_TB"])
    assert 0.4 < (words_TBE == 0).float().mean() < 0.6
    kept = words_TBE != 0
    torch.testing.assert_close(words_TBE[kept], 2 * model.embedding(batch["passage_TB"])[kept])
    seen: list[Tensor] = []
    model.W_ga.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    model(batch)
    model.eval()
    assert torch.equal(model(batch)[0], model(batch)[0])
    assert 0.3 < (seen[0] == 0).float().mean() < 0.7
    assert (seen[1] != 0).all()


# --- norms ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", list(NORMS))
def test_gradients_are_finite_at_the_first_update(norm: str, overrides: list[str]) -> None:
    """The states start at zero, a trap for layer normalisation where words are zero too; here they are not."""
    for form in (["task.bidirectional=true", "task.attention=bilinear"], []):
        task, model = made(*overrides, f"norm={norm}", *form, "task.word_size=64", "task.hidden_size=64")
        task.loss(model, task.batches("train", 64, seed=0)[0]).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_bn_everywhere_is_bn_and_the_terms_of_both_tanhs(overrides: list[str]) -> None:
    task, model = made(*overrides, "norm=bn_everywhere")
    assert model.passage.rnn.cell.norm == model.question.rnn.cell.norm == "bn"
    terms = {name for name, m in model.named_modules() if isinstance(m, BatchDense)}
    assert terms == {"W_dm.1", "W_qm.1", "W_cg.1", "W_qg.1", "W_dg.1"}
    assert all((model.get_submodule(name).weight == 0.1).all() for name in terms)
    for norm in set(NORMS) - {"bn_everywhere"}:
        assert not any(isinstance(m, BatchDense) for m in made(*overrides, f"norm={norm}")[1].modules())

    seen: dict[str, Tensor] = {}
    for name in terms:
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.detach()}))
    batch = task.batches("train", 32, seed=0)[0]
    model(batch)
    assert len(seen["W_dm.1"]) == batch["passage_lengths_B"].sum()  # statistics over the real words of all passages
    for term in seen.values():
        torch.testing.assert_close(term.mean(0), torch.zeros(term.shape[1]), atol=1e-5, rtol=0)
        assert (term.std(0) < 0.11).all()
    assert (seen["W_dm.1"].std(0) > 0).all()


def test_bn_everywhere_elsewhere_is_bn() -> None:
    torch.manual_seed(0)
    a = torch.randn(6, 4)
    torch.testing.assert_close(NORMS["bn_everywhere"]().dense(4)(a), NORMS["bn"]().dense(4)(a))
    x_TBI, outs = torch.randn(5, 6, 3), []
    for name in ("bn", "bn_everywhere"):
        torch.manual_seed(1)
        outs.append(LSTM(3, 4, norm=name, max_t=5)(x_TBI)[0])
    assert torch.equal(*outs)


def test_norms_take_their_statistics_from_training_questions_of_all_lengths(overrides: list[str]) -> None:
    cfg = compose([*overrides, "norm=bn_everywhere"])
    task, norm = make_task(cfg, "cpu"), make_norm(cfg)
    assert isinstance(task, QuestionAnswering)
    lengths = [batch["passage_lengths_B"].max().item() for batch in map(task.batches("train", 20).__getitem__, range(10))]
    assert lengths != sorted(lengths)
    assert torch.equal(task.batches("train", 20)[3]["passage_TB"], task.batches("train", 20)[3]["passage_TB"])
    validation = [task.batches("valid", 20)[k]["passage_lengths_B"].max().item() for k in range(4)]
    assert validation == sorted(validation)
    model = task.build(norm)
    before = {k: v.clone() for k, v in model.named_buffers()}
    evaluate(task, norm, model, 0, 0, "during")
    assert all(not torch.equal(v, before[k]) for k, v in model.named_buffers() if "mean" in k)


# --- the paper's start and settings ---------------------------------------------------------------------------------------


def test_the_start_is_as_the_paper_has_it(overrides: list[str]) -> None:
    """At scale=paper, where words have as many units as the LSTMs."""
    _, model = made(*overrides, "norm=none", "task.word_size=24", "task.hidden_size=24")
    h, orthogonal = 24, 0.0025 * torch.eye(24)
    for encoder in (model.passage, model.question):
        rnn = encoder.rnn
        blocks = [*rnn.weight_ih_l0.detach().split(h), *rnn.weight_hh_l0.detach().split(h)]
        for block in blocks:
            torch.testing.assert_close(block @ block.t(), orthogonal, atol=1e-6, rtol=0)
        assert not any(torch.equal(blocks[0], other) for other in blocks[1:])
        assert not any(p.any() for p in (rnn.bias_ih_l0, rnn.bias_hh_l0, encoder.h0))
    for w in (model.B.weight, model.W_dm[0].weight):
        torch.testing.assert_close(w @ w.t(), orthogonal, atol=1e-6, rtol=0)
    for w in (
        model.embedding.weight,
        *(m[0].weight for m in (model.W_qm, model.W_cg, model.W_qg, model.W_dg)),
        model.W_ga.weight,
    ):
        r = (6 / (sum(w.shape) + 1)) ** 0.5
        assert 0.95 * r < w.abs().max() <= r
    assert 0.7 * 24**-0.5 < model.w.abs().max() <= 24**-0.5
    assert not any(p.any() for p in (model.b_m, model.b_g, model.b_a))


def test_scale_paper_is_the_papers() -> None:
    cfg = compose(["task=question_answering", "scale=paper", "data=cnn", "data.root=x"])
    assert cfg.task == {
        "name": "question_answering",
        "word_size": 240,
        "hidden_size": 240,
        "bidirectional": False,
        "attention": "tanh",
        "use_dq_sims": True,
        "answers": "vocabulary",
        "dropout": 0.5,
        "cell": "lstm",
        "placement": "all_gates",
    }
    assert (cfg.optimizer.name, cfg.optimizer.lr, list(cfg.optimizer.betas)) == ("adam", 8e-5, [0.9, 0.999])
    assert (cfg.batch_size, cfg.clip_norm, cfg.eval_every, cfg.data.passage, cfg.data.permute) == (64, 10, 1000, "top4", "batch")


# --- measures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ["vocabulary", "entities"])
def test_measures_by_hand(answers: str, overrides: list[str]) -> None:
    task, model = made(*overrides, "norm=ln", f"task.answers={answers}")
    nn.init.normal_(model.W_ga.weight, std=3)
    model.eval()
    wrong, wrong_among, nll, losses, n = 0, 0, 0.0, [], 0
    for k in range(len(batches := task.batches("valid", 16))):
        batch = batches[k]
        logits_BA = model(batch)[0].detach().double()
        first = 0 if answers == "vocabulary" else ENTITY
        assert logits_BA.shape[1] == (len(task.set.vocabulary) if answers == "vocabulary" else task.set.entities)
        for b, logits_A in enumerate(logits_BA):
            answer, present = int(batch["answer_B"][b]), set(batch["passage_TB"][:, b].tolist())
            wrong += int(logits_A.argmax()) + first != answer
            among = [e for e in range(ENTITY, ENTITY + task.set.entities) if e in present]
            wrong_among += max(among, key=lambda e: float(logits_A[e - first])) != answer
            nll -= float(torch.log_softmax(logits_A, 0)[answer - first])
            n += 1
        losses.append(task.loss(model, batch).item() * len(logits_BA))
    measured = task.evaluate(model, "valid")
    assert measured["error"] == pytest.approx(wrong / n)
    assert measured["candidate_error"] == pytest.approx(wrong_among / n)
    assert measured["nll"] == pytest.approx(nll / n, rel=1e-6)
    assert sum(losses) / n == pytest.approx(nll / n, rel=1e-4)


def test_an_answer_that_the_passage_lacks_is_wrong_among_candidates(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the passage has no candidate at all, so that nothing is left to choose from."""
    task, model = made(*overrides, "norm=none", "task.answers=entities")
    batch = task.batches("valid", 256)[0]
    batch = {
        **batch,
        "answer_B": torch.full_like(batch["answer_B"], ENTITY),
        "candidates_BE": torch.zeros_like(batch["candidates_BE"]),
    }
    monkeypatch.setattr(task, "batches", lambda *_, **__: [batch])
    model.b_a.data[0] = 1e3
    assert task.evaluate(model.eval(), "valid") == {"error": 0.0, "nll": pytest.approx(0.0), "candidate_error": 1.0}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.attention=bilinar", "task.attention=bilinar: allowed are bilinear, tanh; did you mean bilinear?"),
        ("task.answers=all", "task.answers=all: allowed are entities, vocabulary"),
        ("task.hidden_size=0", "task.hidden_size=0: must be a whole number, 1 or more"),
        ("task.dropout=1", "task.dropout=1: must be a number 0 or more and below 1"),
    ],
)
def test_wrong_values_are_named(override: str, says: str, overrides: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        make_task(compose([*overrides, override]), "cpu")
    assert str(raised.value) == says


def test_bilinear_attention_needs_its_term(overrides: list[str]) -> None:
    with pytest.raises(UserError, match=r"task\.use_dq_sims=False: attention=bilinear is this term alone"):
        make_task(compose([*overrides, "task.attention=bilinear", "task.use_dq_sims=false"]), "cpu")


# --- script and figures ---------------------------------------------------------------------------------------------------


def test_a_run_can_be_asked(overrides: list[str], tmp_path: Path) -> None:
    cfg = compose([*overrides, "norm=bn_everywhere", "wandb.mode=disabled"])
    summary = run.run(cfg)
    assert summary is not None and summary["status"] == "finished"
    rows = pd.read_csv(run_folder(cfg) / "metrics.csv")
    assert {"random", "first", "last", "frequent", "window"} <= set(rows[rows["split"] == "baselines"]["metric"])

    ask = partial(call, "scripts/demo/answer.py")
    picture = tmp_path / "answers.png"
    done = ask(run_folder(cfg), "-n", 3, "--out", picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("@placeholder") == done.stdout.count("answer: ") == 3
    assert picture.read_bytes().startswith(b"\x89PNG")

    wrong = ask(tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == f"error: {tmp_path}: not the folder of a run, which holds config.yaml\n"


def test_words_are_placed_within_lines_and_in_order() -> None:
    words = ["w" * n for n in np.random.default_rng(0).integers(1, 9, 200)] + ["x" * 50]
    places = placed(words, 20)
    assert places == sorted(places)
    taken: set[tuple[int, int]] = set()
    for word, (line, column) in zip(words, places, strict=True):
        letters = {(line, column + k) for k in range(len(word))}
        assert not letters & taken
        taken |= letters
        assert column + len(word) <= 20 or column == 0
    assert len({line for line, _ in places}) < 80
