"""The compiled order violations: forward and backward pass, without autograd.

Shapes: I images, C captions, D dimensions.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from lnexp.nn.csrc.build import library
from lnexp.nn.ops.recurrent.cpu_call import dense


class Call(ctypes.Structure):
    """`Order` of order.h, field by field."""

    _fields_ = [
        ("v", ctypes.c_void_p),
        ("images", ctypes.c_int64),
        ("v_stride", ctypes.c_int64),
        ("s", ctypes.c_void_p),
        ("captions", ctypes.c_int64),
        ("s_stride", ctypes.c_int64),
        ("dims", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("e", ctypes.c_void_p),
        ("de", ctypes.c_void_p),
        ("de_image", ctypes.c_int64),
        ("de_caption", ctypes.c_int64),
        ("dv", ctypes.c_void_p),
        ("ds", ctypes.c_void_p),
    ]


def execute(direction: str, v_ID: Tensor, s_CD: Tensor, **more: int) -> None:
    v_ID, s_CD = dense(v_ID), dense(s_CD)  # the names keep the copies alive
    call = Call(
        v=v_ID.data_ptr(),
        images=v_ID.shape[0],
        v_stride=v_ID.stride(0),
        s=s_CD.data_ptr(),
        captions=s_CD.shape[0],
        s_stride=s_CD.stride(0),
        dims=v_ID.shape[1],
        threads=torch.get_num_threads(),
        **more,
    )
    getattr(library(), f"order_{direction}_{str(v_ID.dtype).removeprefix('torch.')}")(ctypes.byref(call))


def forward(v_ID: Tensor, s_CD: Tensor) -> Tensor:
    """The violations E_IC."""
    E_IC = v_ID.new_empty(v_ID.shape[0], s_CD.shape[0])
    execute("forward", v_ID, s_CD, e=E_IC.data_ptr())
    return E_IC


def backward(v_ID: Tensor, s_CD: Tensor, dE_IC: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of v_ID and s_CD, given that of E_IC in any layout."""
    dv_ID, ds_CD = v_ID.new_empty(v_ID.shape), s_CD.new_empty(s_CD.shape)
    image, caption = dE_IC.stride()
    given = {"de": dE_IC.data_ptr(), "de_image": image, "de_caption": caption}
    execute("backward", v_ID, s_CD, **given, dv=dv_ID.data_ptr(), ds=ds_CD.data_ptr())
    return dv_ID, ds_CD
