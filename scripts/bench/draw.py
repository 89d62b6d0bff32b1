"""Speed of DRAW against the same model written plainly in torch: milliseconds for a loss and its gradients.

Columns take turns; medians over rounds, ratios within a round. With one thread the clock is the processor's, with several the
wall's. No data are needed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lnexp.nn import NORMS
from lnexp.nn.ops.draw.interface import Windows
from lnexp.nn.ops.draw.reference import filters
from lnexp.provenance import processor
from lnexp.tasks.draw.model import DrawNet

SIZES = {"desk": (10, 128, 50), "larochelle": (20, 160, 100), "large": (24, 256, 100)}  # glimpses, units, latents
BATCH = 128
WINDOWS = Windows()


def plain_loss(net: DrawNet, x_BD: Tensor, noise_TBZ: Tensor) -> Tensor:
    """The bound as one writes it first: a loop over glimpses, with torch's own functions."""
    x_BSS = x_BD.unflatten(1, (WINDOWS.side, WINDOWS.side))
    h_enc_BH = x_BD.new_zeros(len(x_BD), net.encoder.hidden_size)
    h_dec_BH = c_enc_BH = c_dec_BH = h_enc_BH
    canvas_BSS, kl, layer_norm = torch.zeros_like(x_BSS), x_BD.new_zeros(()), net.encoder.norm.name == "ln"

    def lstm(cell, x_BI: Tensor, h_BH: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor]:
        sums_BG = F.linear(x_BI, cell.weight_ih, cell.bias_ih) + F.linear(h_BH, cell.weight_hh, cell.bias_hh)
        i, f, g, o = sums_BG.chunk(4, 1)
        c_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()
        y_BH = F.layer_norm(c_BH, c_BH.shape[1:], cell.gain_c, cell.bias_c) if layer_norm else c_BH
        return o.sigmoid() * y_BH.tanh(), c_BH

    attention_BA = net.attention(h_dec_BH)
    for noise_BZ in noise_TBZ:
        fy, fx, gamma = filters(attention_BA[:, WINDOWS.read_filter], WINDOWS.read, WINDOWS.side)
        both = torch.stack([x_BSS, x_BSS - canvas_BSS.sigmoid()], 1)
        seen_BI = gamma * (fy[:, None] @ both @ fx[:, None].mT).flatten(1)
        h_enc_BH, c_enc_BH = lstm(net.encoder, torch.cat([seen_BI, h_dec_BH], 1), h_enc_BH, c_enc_BH)
        mean_BZ, log_sigma_BZ = net.posterior(h_enc_BH).chunk(2, 1)
        sigma_BZ = log_sigma_BZ.exp()
        kl = kl + (0.5 * (mean_BZ.square() + sigma_BZ.square() - 1) - log_sigma_BZ).sum()
        h_dec_BH, c_dec_BH = lstm(net.decoder, mean_BZ + sigma_BZ * noise_BZ, h_dec_BH, c_dec_BH)
        attention_BA = net.attention(h_dec_BH)
        fy, fx, gamma = filters(attention_BA[:, WINDOWS.write_filter], WINDOWS.write, WINDOWS.side)
        patch_BNN = attention_BA[:, WINDOWS.patch].unflatten(1, (WINDOWS.write, WINDOWS.write))
        canvas_BSS = canvas_BSS + fy.mT @ patch_BNN @ fx / gamma[..., None]
    return (F.binary_cross_entropy_with_logits(canvas_BSS, x_BSS, reduction="sum") + kl) / len(x_BD)


def our_loss(net: DrawNet, x_BD: Tensor, noise_TBZ: Tensor) -> Tensor:
    reconstruction_B, kl_TB = net.bound(x_BD, noise_TBZ)
    return reconstruction_B.mean() + kl_TB.sum(0).mean()


def seconds(loss: Callable[[DrawNet, Tensor, Tensor], Tensor], net: DrawNet, x_BD: Tensor, noise_TBZ: Tensor) -> float:
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    torch.autograd.grad(loss(net, x_BD, noise_TBZ), list(net.parameters()))
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"by commas (default: {','.join(SIZES)})")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{processor()}; torch {torch.__version__}; {arguments.threads} thread(s); medians of {arguments.rounds} rounds.\n")
    header = ["size", "norm", "ours ms", "plain torch ms", "times as fast"]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for size in arguments.sizes.split(","):
        glimpses, hidden_size, latents = SIZES[size]
        x_BD, noise_TBZ = (torch.rand(BATCH, WINDOWS.side**2) < 0.2).float(), torch.randn(glimpses, BATCH, latents)
        for norm in ("none", "ln"):
            net = DrawNet(
                NORMS[norm](), windows=WINDOWS, glimpses=glimpses, latents=latents, hidden_size=hidden_size,
                placement="cell_only", start="wide",
            )  # fmt: skip
            rounds = [
                [seconds(loss, net, x_BD, noise_TBZ) for loss in (our_loss, plain_loss)] for _ in range(arguments.rounds + 1)
            ]
            ours, plain = (statistics.median(r[k] for r in rounds[1:]) for k in (0, 1))
            ratio = statistics.median(r[1] / r[0] for r in rounds[1:])
            named = f"{size}: T {glimpses}, H {hidden_size}, Z {latents}"
            print(f"| {named} | {norm} | {ours * 1e3:.1f} | {plain * 1e3:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
