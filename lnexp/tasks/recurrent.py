"""The recurrent layers of the tasks, chosen by the knobs `task.cell` and `task.placement`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lnexp.errors import check_choice
from lnexp.nn import GRU, LSTM, RNN, Norm
from lnexp.nn.ops.recurrent.interface import PLACEMENTS

CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def check_recurrent(cell: str, placement: str) -> None:
    """Raise a UserError unless there is such a cell, with such a placement of the norm."""
    check_choice("task.cell", cell, CELLS)
    check_choice(f"task.cell={cell}: task.placement", placement, PLACEMENTS[cell])


def recurrent(cell: str, placement: str, inputs: int, hidden: int, norm: Norm, **options: Any) -> Any:
    """A layer of `lnexp.nn`. A norm that acts on weights or not at all has no placement: there it is ignored."""
    return CELLS[cell](inputs, hidden, norm=norm, placement=placement, **options)


def hidden_state(state: Any) -> Tensor:
    """h of the state that a recurrent layer returns: of (h, c) for an LSTM."""
    return state[0] if isinstance(state, tuple) else state
