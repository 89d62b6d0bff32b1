# ruff: noqa: E501, SIM905
"""Random command lines of train.py: valid ones, wrong ones, and their mutations. Each ends within seconds."""

from __future__ import annotations

import random

KEYS = (
    "task norm scale data experiment seed batch_size epochs max_updates optimizer optimizer.name optimizer.lr optimizer.betas "
    "optimizer.eps optimizer.alpha clip_norm clip_norm_each eval_every evaluations log_every device threads checkpoint_every "
    "checkpoint_minutes samples skip plan fresh wandb wandb.mode wandb.project task.hidden_sizes task.hidden_size task.output_norm "
    "task.train_examples task.name task.pool norm.eps norm.gain norm.name data.root data.set data.name hydra.verbose hydra/launcher "
    "nrom tsak.x x"
).split()
VALUES = (
    "mnist permuted_mnist order_embeddings ln bn none rms desk smoke paper idx karpathy books fig6 fig1_flickr8k adam rmsprop auto "
    "cpu cuda cuda:9 offline true false null 0 1 2 3 -1 0.5 -0.5 1e400 nan inf 0x10 [] [1] [1,2] [a] {} {a:1} {a: 1 ??? ${seed} ${x} "
    "${x:y} ${ ' \" 'a' \"a b\" a=b a:b ~ ~/x /x/y=z é 日本 1,2 ln,none 0,1 range(2) range(0) range(1,1) glob(*) glob(x*) choice(1,2) "
    "interval(0,1) shuffle(1,2) sort(2,1) tag(a,1) \\ \\n % @ * ( ) [1, ,, , <tab> basic joblib nothing"
).split(" ")
OPTIONS = (
    "-m --multirun --cfg -c --cfg=job --info -i --resolve --help -h --version --package -p --hydra-help --run -r -x --foo --m -- - "
    "--config-name --config-dir=/nowhere"
).split()
MARKS = ("", "", "", "", "", "", "+", "++", "~")


def command(seed: int) -> list[str]:
    """One of the command lines, without the overrides that make it short."""
    dice = random.Random(seed)
    words = [f"task={dice.choice(('mnist', 'permuted_mnist'))}"] if dice.random() < 0.8 else []
    for _ in range(dice.randrange(1, 5)):
        value = "" if dice.random() < 0.1 else dice.choice(VALUES)
        words.append(f"{dice.choice(MARKS)}{dice.choice(KEYS)}{dice.choice(('=',) * 12 + ('', ' = ', '=='))}{value}")
    if dice.random() < 0.3:
        words.insert(dice.randrange(len(words) + 1), dice.choice(OPTIONS))
    if dice.random() < 0.2:
        at = dice.randrange(len(words))
        letters = list(words[at])
        letters[dice.randrange(len(letters))] = dice.choice("=,'\"[]{}()$\\ ~é\t")
        words[at] = "".join(letters)
    return words
