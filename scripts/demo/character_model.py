"""A character model in forty lines, where `norm` is the only change: trains in a minute, then samples with a packed cell.

    python scripts/demo/character_model.py                       on the source code of this repository
    python scripts/demo/character_model.py book.txt --updates 2000 --norms none ln rms

All models start from equal weights and see equal batches. Printed: the loss on the last tenth of the text, in nats per character.

Shapes: T time, B batch, V characters, E embedding, H hidden.
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnexp import paths
from lnexp.errors import UserError
from lnexp.nn import LSTM, LSTMCell, norms

EMBEDDING = 64


class CharacterModel(nn.Module):
    """ids_TB -> logits_TBV of the characters that follow."""

    def __init__(self, characters: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, EMBEDDING)
        self.lstm = LSTM(EMBEDDING, hidden, norm=norm)
        self.output = nn.Linear(hidden, characters)

    def forward(self, ids_TB: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(ids_TB))[0])

    @torch.no_grad()
    def sample(self, start: int, length: int) -> list[int]:
        """Draw characters one at a time, each from the distribution given those before it."""
        cell = LSTMCell(EMBEDDING, self.lstm.hidden_size, norm=self.lstm.norm)
        cell.load_state_dict({name.replace("_l0", ""): value for name, value in self.lstm.state_dict().items()})
        ids_1, state, drawn = torch.tensor([start]), None, []
        with cell.packed():
            for _ in range(length):
                state = cell(self.embedding(ids_1), state)
                ids_1 = self.output(state[0]).softmax(dim=1).multinomial(1)[:, 0]
                drawn.append(int(ids_1))
        return drawn


def loss_of(model: CharacterModel, ids_TB: Tensor) -> Tensor:
    """Cross-entropy of each character given those before it."""
    return F.cross_entropy(model(ids_TB[:-1]).flatten(0, 1), ids_TB[1:].flatten())


def train(ids_N: Tensor, characters: int, options: argparse.Namespace) -> dict[str, CharacterModel]:
    """Train one model per norm side by side; print their losses."""
    length, models, optimisers = options.length, {}, {}
    held_out_N = ids_N[-max(len(ids_N) // 10, length + 2) :]
    train_N = ids_N[: -len(held_out_N)]
    if len(train_N) < length + 2:
        raise UserError(f"the text has {len(ids_N)} characters: must be {3 * length} or more with --length {length}")
    held_out_TB = held_out_N[: len(held_out_N) // (length + 1) * (length + 1)].view(-1, length + 1)[:64].t()
    for norm in options.norms:
        torch.manual_seed(options.seed)
        models[norm] = CharacterModel(characters, options.hidden, norm)
        optimisers[norm] = torch.optim.Adam(models[norm].parameters(), lr=2e-3)
    print("update  " + "".join(f"{norm:>8}" for norm in models))
    for update in range(options.updates + 1):
        if update % max(options.updates // 10, 1) == 0:
            with torch.no_grad():
                print(f"{update:6}  " + "".join(f"{loss_of(m, held_out_TB).item():8.3f}" for m in models.values()), flush=True)
        starts_B = torch.randint(len(train_N) - length, (options.batch,))
        ids_TB = train_N[starts_B + torch.arange(length + 1)[:, None]]
        for norm, model in models.items():
            optimisers[norm].zero_grad()
            loss_of(model, ids_TB).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimisers[norm].step()
    return models


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train character models that differ in their norm alone, and sample from them.")
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="text in UTF-8; the code of lnexp without it")
    parser.add_argument("--norms", nargs="+", default=["none", "ln"], choices=[n for n in norms.NORMS if not n.startswith("bn")])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--hidden", type=int, default=256, help="units of the LSTM")
    parser.add_argument("--batch", type=int, default=32, help="sequences per update")
    parser.add_argument("--length", type=int, default=64, help="characters per sequence")
    parser.add_argument("--sample", type=int, default=300, help="characters drawn at the end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    try:
        files = options.files or sorted((paths.ROOT / "lnexp").rglob("*.py"))
        text = "".join(path.read_text(errors="replace") for path in files)
        vocabulary = sorted(set(text))
        index = {character: i for i, character in enumerate(vocabulary)}
        models = train(torch.tensor([index[c] for c in text], dtype=torch.int64), len(vocabulary), options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for norm, model in models.items():
        torch.manual_seed(options.seed)
        drawn = "".join(vocabulary[i] for i in model.sample(index.get("\n", 0), options.sample))
        print(f"\n--- norm={norm} ---\n{drawn}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
