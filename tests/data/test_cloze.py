"""Cloze batches: entities renamed consistently, questions compressed and paraphrased, all from (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lnexp.data.batches import Batches
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze.baselines import baselines
from lnexp.data.cloze.batches import ENTITY, Paraphrase, Questions, cloze_batches
from lnexp.data.text.sequences import Sequences
from lnexp.data.text.vocabulary import END
from lnexp.errors import UserError

ENTITIES, WORDS = 5, 12  # numbers 2..6 are entities, 7 the placeholder, 8..19 words, of which 19 is a full stop
BLANK, STOP, SIZE = ENTITY + ENTITIES, ENTITY + ENTITIES + WORDS, ENTITY + ENTITIES + 1 + WORDS


def made(examples: int = 60, paraphrase: Paraphrase | None = None, permute: str = "example") -> Questions:
    """Random passages, each asked about twice with a copy of its end."""
    random = np.random.default_rng(0)
    passages = [
        [*random.integers(BLANK + 1, SIZE, random.integers(9, 20)), 2, 3, 8, 2 + random.integers(2, 5), 9, STOP]
        for _ in range(examples // 2)
    ]
    questions = [[BLANK if w == 2 + answer else w for w in passage[-12:]] for passage in passages for answer in (0, 1)]
    return Questions(
        passages=Sequences.of(passages),
        questions=Sequences.of(questions),
        passage_N=np.arange(examples) // 2,
        answer_N=np.arange(examples) % 2,
        entities=ENTITIES,
        permute=permute,
        paraphrase=paraphrase,
    )


def how(keep: float, change: float) -> Paraphrase:
    """Words 8..18 have the words 8..18 four further on as neighbours; names and the full stop are dropped."""
    words = np.arange(SIZE)
    is_word = (words > BLANK) & (words < STOP)
    ring = BLANK + 1 + (words[:, None] - BLANK - 1 + np.arange(1, 5)) % (WORDS - 1)
    dropped = ~is_word & (words != 1)
    return Paraphrase(keep, change, np.where(is_word[:, None], ring, words[:, None]), dropped)


def columns(batch: dict, name: str) -> list[list[int]]:
    return [c[:n] for c, n in zip(batch[f"{name}B"].t().tolist(), batch[f"{name[:-2]}_lengths_B"].tolist(), strict=True)]


def examples_of(batches: Batches) -> dict[int, tuple]:
    """What each example looks like, by its number."""
    seen = {}
    for k, index in enumerate(batches.index_batches):
        batch = batches[k]
        rows = zip(columns(batch, "passage_T"), columns(batch, "question_S"), batch["answer_B"].tolist(), strict=True)
        seen |= dict(zip(index.tolist(), rows, strict=True))
    return seen


@pytest.mark.parametrize("permute", ["example", "batch"])
@pytest.mark.parametrize("seed", [None, 3])
def test_entities_are_renamed_alike_in_passage_question_and_answer(permute: str, seed: int | None) -> None:
    questions = made(permute=permute)
    batches = cloze_batches(questions, 8, seed)
    renamings = set()
    for k, index in enumerate(batches.index_batches):
        batch, here = batches[k], set()
        assert batch["passage_TB"].dtype == batch["question_SB"].dtype == batch["answer_B"].dtype == torch.int64
        rows = zip(index, columns(batch, "passage_T"), columns(batch, "question_S"), strict=True)
        for b, (n, passage, question) in enumerate(rows):
            before = questions.passages[questions.passage_N[n]].tolist(), questions.questions[n].tolist()
            name = {old: new for old, new in zip(before[0], passage, strict=True) if ENTITY <= old < BLANK}
            assert len(set(name.values())) == len(name) and all(ENTITY <= new < BLANK for new in name.values())
            assert passage == [name.get(w, w) for w in before[0]]
            assert question == [name.get(w, w) for w in before[1]]
            assert batch["answer_B"][b] == name[ENTITY + questions.answer_N[n]]
            assert {e + ENTITY for e in batch["candidates_BE"][b].nonzero().flatten().tolist()} == set(name.values())
            here.add((name[2], name[3]))
        assert (len(here) == 1) == (permute == "batch")
        renamings |= here
    assert (len(renamings) == 1) == (permute == "batch" and seed is None)  # one for all in evaluation, if it is per batch


def test_passages_are_padded_with_end() -> None:
    batch = cloze_batches(made(), 60)[0]
    for b, length in enumerate(batch["passage_lengths_B"].tolist()):
        assert batch["passage_TB"][length:, b].eq(END).all() and batch["passage_TB"][:length, b].ne(END).all()
    assert batch["passage_TB"].shape[0] == batch["passage_lengths_B"].max()
    assert batch["candidates_BE"].shape == (60, ENTITIES) and batch["candidates_BE"].dtype == torch.bool


def test_evaluation_is_the_same_whatever_the_batch_size() -> None:
    questions = made(paraphrase=how(0.5, 0.7))
    assert examples_of(cloze_batches(questions, 7)) == examples_of(cloze_batches(questions, 64))
    assert len(examples_of(cloze_batches(questions, 7))) == len(questions)


@pytest.mark.parametrize("permute", ["example", "batch"])
def test_training_follows_from_seed_epoch_and_number(permute: str) -> None:
    questions = made(paraphrase=how(0.5, 0.7), permute=permute)
    first, again = cloze_batches(questions, 8, 1, 2), cloze_batches(questions, 8, 1, 2)
    assert len(first) == 7
    for k in reversed(range(len(first))):
        assert all(torch.equal(value, again[k][name]) for name, value in first[k].items())
    for other in (cloze_batches(questions, 8, 1, 3), cloze_batches(questions, 8, 2, 2)):
        before, after = examples_of(first), examples_of(other)
        assert sum(before[n] == after[n] for n in before.keys() & after.keys()) < 10


def test_processes_share_a_batch() -> None:
    questions = made(paraphrase=how(0.5, 0.7))
    whole = cloze_batches(questions, 8, 1)
    for k in range(len(whole)):
        for rank in (0, 1):
            part = cloze_batches(questions, 8, 1, share=(rank, 2))[k]
            for name in ("passage_T", "question_S"):
                assert columns(part, name) == columns(whole[k], name)[rank::2]
            assert part["answer_B"].tolist() == whole[k]["answer_B"][rank::2].tolist()
    assert len(cloze_batches(questions, 9, share=(1, 2))[0]["answer_B"]) == 9  # all evaluate everything
    with pytest.raises(UserError, match="batch_size=9: must be a multiple of the 2 processes"):
        cloze_batches(questions, 9, 1, share=(0, 2))
    with pytest.raises(IndexError):
        whole[len(whole)]


def test_a_compressed_question_is_part_of_its_sentence() -> None:
    questions = made(2000, how(0.5, 0.0))
    shorter = 0
    for n, (_, question, _) in examples_of(cloze_batches(questions, 64)).items():
        whole = questions.questions[n].tolist()
        kept = iter(whole)
        assert all(word in kept for word in question)  # in order
        assert BLANK in question and not any(word == STOP or ENTITY <= word < BLANK for word in question)
        words = sum(BLANK < word < STOP for word in whole)
        assert len(question) >= 1 + min(2, words)
        shorter += len(question) - 1 - words / 2
    assert abs(shorter / 2000) < 0.2  # half of the words, but for those that had to stay
    whole = examples_of(cloze_batches(replace(questions, paraphrase=how(1.0, 0.0)), 64))
    assert all(q == [w for w in questions.questions[n].tolist() if w >= BLANK and w != STOP] for n, (_, q, _) in whole.items())


def test_paraphrase_takes_neighbours_equally_often() -> None:
    questions = made(2000, how(1.0, 0.7))
    steps = []
    for n, (_, question, _) in examples_of(cloze_batches(questions, 64, 1)).items():
        whole = [w for w in questions.questions[n].tolist() if w >= BLANK and w != STOP]
        pairs = [(old, new) for old, new in zip(whole, question, strict=True) if old != BLANK]
        steps += [(new - old) % (WORDS - 1) for old, new in pairs]
    share = np.bincount(steps, minlength=WORDS - 1) / len(steps)
    np.testing.assert_allclose(share, [0.3, *[0.175] * 4, *[0] * 6], atol=0.015)


def test_baselines_of_a_case_by_hand() -> None:
    """Entity 2 is first, 4 last, 3 most frequent; the question's words are around 4, in its order around 2."""
    passage = [8, 2, 9, 10, 10, 10, 10, 10, 10, 10, 10, 10, 3, 3, 3, 10, 10, 10, 10, 10, 10, 10, 10, 9, 4, 11, 8]
    questions = replace(
        made(),
        passages=Sequences.of([passage]),
        questions=Sequences.of([[8, BLANK, 9, 11]]),
        passage_N=np.array([0]),
        answer_N=np.array([0]),
    )
    right = {"first": 2, "last": 4, "frequent": 3, "frequent_unnamed": 3, "window": 4, "directional": 2}
    for answer in (0, 1, 2):
        errors = baselines(replace(questions, answer_N=np.array([answer])))
        assert errors.pop("random") == pytest.approx(2 / 3)
        assert errors == {rule: float(entity != ENTITY + answer) for rule, entity in right.items()}
    named = replace(questions, questions=Sequences.of([[3, BLANK, 10]]))  # entity 3 is out: 2 and 4 are left, once each
    assert baselines(named)["frequent_unnamed"] == 0.5
    assert baselines(named)["frequent"] == 1.0


def test_matchers_against_a_plain_transcription() -> None:
    questions = made(40, how(0.6, 0.3))
    wrong = {"window": 0.0, "directional": 0.0}
    for passage, question, answer in examples_of(cloze_batches(questions, 64)).values():
        entities = sorted({w for w in passage if ENTITY <= w < BLANK})
        at = question.index(BLANK)
        for rule in wrong:
            score = {}
            for entity in entities:
                mentions = [i for i, w in enumerate(passage) if w == entity]
                met = []
                for i in mentions:
                    before, after = passage[max(0, i - 8) : i], passage[i + 1 : i + 9]
                    left = {w for w in question[:at] if w > 1 and w in before}
                    right = {w for w in question[at + 1 :] if w > 1 and w in after}
                    both = {w for w in question if w > 1 and w != BLANK and w in [*before, entity, *after]}
                    met.append(len(left) + len(right) if rule == "directional" else len(both))
                score[entity] = (max(met), len(mentions))
            best = [e for e in entities if score[e] == max(score.values())]
            wrong[rule] += 1 - (answer in best) / len(best)
    found = baselines(questions)
    assert {rule: found[rule] for rule in wrong} == pytest.approx({rule: n / 40 for rule, n in wrong.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "bbc_close"}, r"data=bbc_close: allowed are bbc_cloze, cbt, cnn, novels; did you mean bbc_cloze\?"),
        ({"permute": "exampel"}, r"data\.permute=exampel: allowed are batch, example; did you mean example\?"),
        ({"vocabulary_size": 0}, r"data\.vocabulary_size=0: must be a whole number of words, 1 or more"),
        ({"keep": "half"}, r"data\.keep=half: must be a probability, from 0 to 1"),
        ({"replace": 1.5}, r"data\.replace=1\.5: must be a probability, from 0 to 1"),
        ({"entities": 3}, r"data\.entities=3: must be a whole number, 4 or more"),
    ],
)
def test_wrong_values_are_named(change: dict, message: str, tmp_path) -> None:
    data = {"name": "bbc_cloze", "root": None, "entities": 16, "vocabulary_size": 50, "keep": 0.5, "replace": 0.7}
    with pytest.raises(UserError, match=message):
        cloze.load({**data, "permute": "example", **change}, tmp_path)
