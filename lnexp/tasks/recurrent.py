"""The recurrent layers of the tasks, chosen by the knobs `task.cell` and `task.placement`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lnexp.errors import UserError, check_choice
from lnexp.nn import GRU, LSTM, RNN, Norm

CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
PLACEMENTS: dict[str, dict[str, bool]] = {
    "all_gates": {},  # one normalisation over all gates together (paper, equations 20 and 23)
    "per_gate": {"per_gate": True},  # one for each gate
    "cell_only": {"cell_only": True},  # of the cell alone (paper, equations 29 to 31)
    "bias_inside": {"bias_in": True},  # as all_gates, with a bias inside the norm of the input term (the authors' code)
}


def check_recurrent(cell: str, placement: str) -> None:
    """Raise a UserError unless there is such a cell with such a placement of the norm."""
    check_choice("task.cell", cell, CELLS)
    check_choice("task.placement", placement, PLACEMENTS)
    if placement == "cell_only" and cell != "lstm":
        raise UserError(f"task.placement=cell_only: task.cell={cell} has no cell state, only lstm has one")


def recurrent(cell: str, placement: str, inputs: int, hidden: int, norm: Norm, **options: Any) -> Any:
    """An `lnexp.nn` layer, uninitialised by the task."""
    return CELLS[cell](inputs, hidden, norm=norm, **PLACEMENTS[placement], **options)


def hidden_state(state: Any) -> Tensor:
    """h of the state that a recurrent layer returns: of (h, c) for an LSTM."""
    return state[0] if isinstance(state, tuple) else state
