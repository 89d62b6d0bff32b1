"""Converts padded, packed or unbatched sequences to [T, B, I] with lengths, and back.

Shapes: T time, B batch, I input, H hidden, D directions, L layers * directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lnexp.nn.ops.autograd import transformed


@dataclass
class Layout:
    """The caller's layout. Packed sequences are processed in their sorted order."""

    x_TBI: Tensor
    lengths_B: Tensor | None  # int64 on the CPU
    batch_first: bool = False
    unbatched: bool = False
    packed: PackedSequence | None = None

    @classmethod
    def read(
        cls, x: Tensor | PackedSequence, lengths: Tensor | Sequence[int] | None, batch_first: bool, input_size: int
    ) -> Layout:
        """Raises a ValueError unless x fits a layer of `input_size`, and `lengths` fit x."""
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError(f"lengths={lengths}: a PackedSequence has its own, give None")
            x_TBI, lengths_B = pad_packed_sequence(PackedSequence(x.data, x.batch_sizes))
            layout = cls(x_TBI, lengths_B, packed=x)
        else:
            if x.dim() not in (2, 3):
                raise ValueError(f"input.shape={tuple(x.shape)}: must have 3 dimensions, or 2 for a single sequence")
            unbatched = x.dim() == 2
            x_TBI = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if batch_first else x
            layout = cls(x_TBI, checked_lengths(lengths, *x_TBI.shape[:2]), batch_first, unbatched)
        if x_TBI.shape[2] != input_size:
            raise ValueError(f"input has {x_TBI.shape[2]} features: must be input_size={input_size}")
        return layout

    def state_in(self, state: Tensor, name: str, layers: int, hidden_size: int) -> Tensor:
        """A state of the caller as [L, B, H]. Raises a ValueError about `name` for a wrong shape or type."""
        batch = () if self.unbatched else (self.x_TBI.shape[1],)
        if state.shape != (layers, *batch, hidden_size):
            raise ValueError(f"{name}.shape={tuple(state.shape)}: must be {(layers, *batch, hidden_size)}")
        if self.unbatched:
            return state.unsqueeze(1)
        return state if self.packed is None or self.packed.sorted_indices is None else state[:, self.packed.sorted_indices]

    def state_out(self, state_LBH: Tensor) -> Tensor:
        """A state [L, B, H] in the caller's layout and order."""
        if self.unbatched:
            return state_LBH.squeeze(1)
        unsorted = None if self.packed is None else self.packed.unsorted_indices
        return state_LBH if unsorted is None else state_LBH[:, unsorted]

    def output(self, out_TBH: Tensor) -> Any:
        """The hidden states of all steps in the caller's layout."""
        if self.packed is not None:
            assert self.lengths_B is not None, "packed sequences have lengths"
            data = pack_padded_sequence(out_TBH, self.lengths_B).data
            return PackedSequence(data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices)
        if self.unbatched:
            return out_TBH.squeeze(1)
        return out_TBH.transpose(0, 1) if self.batch_first else out_TBH


def checked_lengths(lengths: Tensor | Sequence[int] | None, steps: int, cases: int) -> Tensor | None:
    """`lengths` as int64 on the CPU. Raises a ValueError unless there is one of 1..T for each of B cases."""
    if lengths is None:
        return None
    lengths_B = torch.as_tensor(lengths, device="cpu")
    if not isinstance(lengths, Tensor) and len(lengths) == 0:
        lengths_B = lengths_B.long()  # an empty list has no type of its own
    whole = not (lengths_B.is_floating_point() or lengths_B.is_complex() or lengths_B.dtype == torch.bool)
    if lengths_B.shape != (cases,) or not whole:
        raise ValueError(f"lengths={lengths}: must be {cases} whole numbers, one for each case")
    if cases and not 1 <= lengths_B.min() <= lengths_B.max() <= steps:
        raise ValueError(f"lengths={lengths_B.tolist()}: each must be 1 to {steps}, the number of steps")
    return lengths_B.long()


def reverse(x_TBI: Tensor, lengths_B: Tensor | None) -> Tensor:
    """x with each case's real steps in reverse order; padding stays where it is."""
    if lengths_B is None:
        return x_TBI.flip(0)
    t_T1 = torch.arange(len(x_TBI), device="cpu")[:, None]
    source_TB = torch.where(t_T1 < lengths_B, lengths_B - 1 - t_T1, t_T1).to(x_TBI.device)
    case_B = torch.arange(x_TBI.shape[1], device=x_TBI.device)
    return x_TBI[source_TB, case_B] if transformed([x_TBI]) else ReverseTime.apply(x_TBI, source_TB, case_B)


class ReverseTime(torch.autograd.Function):
    """x_TBI[source_TB, case_B]: a permutation that is its own inverse, and so its own gradient."""

    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, source_TB: Tensor, case_B: Tensor) -> Tensor:
        ctx.save_for_backward(source_TB, case_B)
        return x_TBI[source_TB, case_B]

    @staticmethod
    def backward(ctx: Any, grad_TBI: Tensor) -> tuple[Tensor, None, None]:
        source_TB, case_B = ctx.saved_tensors
        if transformed([grad_TBI]):
            return grad_TBI[source_TB, case_B], None, None
        return ReverseTime.apply(grad_TBI, source_TB, case_B), None, None
