"""Which tensors kernels and hand-written derivatives may take, and derivatives of any order by plain autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

PLAIN_TYPES = (Tensor, nn.Parameter)
HALF = "torch.bfloat16, torch.float16"


_is_batched = torch._C._functorch.is_legacy_batchedtensor  # of `torch.autograd.grad(..., is_grads_batched=True)`


def _keys(t: Tensor) -> int:
    """The dispatch keys of a tensor, as bits: what torch consults before it runs an operation on it."""
    return torch._C._dispatch_keys(t).raw_repr()


with torch.inference_mode():
    _INFERENCE = _keys(torch.empty(0, device="cpu"))
DENSE_CPU = (_keys(torch.empty(0, device="cpu")), _INFERENCE)


def transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether something follows each operation that an `autograd.Function` would hide from it.

    True inside `torch.jit.trace`, the transforms of `torch.func` (vmap, grad, jvp, jacrev, functionalize), batched backward
    passes and forward-mode differentiation, and for subclasses of Tensor. Then only plain operations are right.
    """
    return _transforming() or any(t is not None and (type(t) not in PLAIN_TYPES or _is_batched(t)) for t in tensors)


def _transforming() -> bool:
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def addressable(tensors: Iterable[Tensor | None]) -> bool:
    """Whether compiled code may read and write the memory of these tensors. Takes about 5 microseconds for a layer.

    True for dense tensors on the CPU with memory of their own, outside of `torch.compile`, `transformed` code, dispatch modes
    (fake tensors, export, `make_fx`, counters) and function modes other than a default device.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and (torch._C._len_torch_function_stack() == 0 or _default_device_only())
        and not _transforming()
        and all(
            type(t) in PLAIN_TYPES and _keys(t) in DENSE_CPU and (t.data_ptr() != 0 or t.numel() == 0)
            for t in tensors
            if t is not None
        )
    )


def _default_device_only() -> bool:
    return all(isinstance(mode, DeviceContext) for mode in torch.overrides._get_current_function_mode_stack())


def outside_compiled_graphs(function: Callable, reason: str) -> None:
    """Mark a function so that `torch.compile` runs it, and all that it calls, as it is. `reason` is shown where it may not.

    As `torch.compiler.disable`, which would import the compiler, a second's work, whether it is used or not.
    """
    set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    function._torchdynamo_disable_msg = reason  # type: ignore[attr-defined]


def forms(tensors: Iterable[Tensor | None]) -> list[tuple[torch.Size, torch.dtype] | None]:
    """Shapes and types, to be compared with those of tensors that a hook may have packed and unpacked."""
    return [None if t is None else (t.shape, t.dtype) for t in tensors]


def common_type(*tensors: Tensor) -> torch.dtype | None:
    """The type to compute in: float32 for any of float32, bfloat16 and float16; float64 for float64 alone; None: refused."""
    dtypes = {t.dtype for t in tensors}
    if dtypes <= {torch.float32, torch.bfloat16, torch.float16}:
        return torch.float32
    return torch.float64 if dtypes == {torch.float64} else None


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which tensors on `device` keep their types."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def vjp(
    function: Callable[..., Sequence[Tensor | None]], inputs: Sequence[Tensor | None], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of inputs given those of `function(*inputs)`, by plain autograd.

    For use in the backward pass of an `autograd.Function`: there gradients are enabled exactly if the caller asked for
    `create_graph`, and then the result can be differentiated again, with respect to inputs and grads alike.

    Args:
        function: plain, differentiable torch; returns one tensor (or None) for each of grads; further ones are ignored.
        grads: None: zero.

    Returns:
        One gradient for each input; None for those that are None or need none.
    """
    create_graph = torch.is_grad_enabled()
    device = next(t.device for t in inputs if t is not None)
    with torch.enable_grad(), without_autocast(device):
        # Aliases: an input may have been computed from another one, whose gradient must not go through it here.
        aliases = [None if t is None else t.view_as(t) for t in inputs]
        outputs = function(*aliases)
        pairs = [
            (output, grad)
            for output, grad in zip(outputs, grads, strict=False)
            if output is not None and grad is not None and output.requires_grad
        ]
        wanted = [t for t in aliases if t is not None and t.requires_grad]
        if not pairs or not wanted:
            return [None] * len(aliases)
        outputs, grads = zip(*pairs, strict=True)
        found = iter(
            torch.autograd.grad(outputs, wanted, grads, create_graph=create_graph, allow_unused=True, materialize_grads=True)
        )
    return [next(found) if t is not None and t.requires_grad else None for t in aliases]


def with_higher_derivatives(
    function: Callable[..., Sequence[Tensor | None]], inputs: Sequence[Tensor | None], results: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """results, whose graph gives right first derivatives only, with those of `function` for order two and higher.

    Args:
        function: results = function(*inputs) in plain, differentiable torch. It must hold no reference to inputs.
    """
    return _HigherDerivatives.apply(function, len(inputs), *inputs, *results)


class _HigherDerivatives(torch.autograd.Function):
    """The identity on results. With `create_graph`, gradients go to the inputs by way of `function`, and not through results."""

    @staticmethod
    def forward(ctx: Any, function: Callable, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors[:n])
        ctx.function, ctx.n = function, n
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors[n:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *vjp(ctx.function, inputs, grads), *(None for _ in grads)
        return None, None, *(None for _ in inputs), *grads
