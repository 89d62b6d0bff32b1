"""The share of the recurrent term along the vector of ones: by hand, over padding, and as a run logs it."""

from __future__ import annotations

import pytest
import torch

from lnexp import config
from lnexp.errors import UserError
from lnexp.identity import run_folder
from lnexp.nn import GRU, LSTM
from lnexp.tasks.ones_share import ones_share, ones_shares
from lnexp.training import run
from lnexp.training.runlog import read_rows


def test_the_share_is_the_squared_cosine_with_the_vector_of_ones() -> None:
    a_RG = torch.tensor([[1.0, 1.0, 3.0, -3.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0]])
    ones = torch.ones(2)
    parts = [row[k : k + 2] for row in a_RG for k in (0, 2)]
    cosines = [torch.cosine_similarity(part, ones, dim=0).item() for part in parts if part.any()]
    assert len(cosines) == 4
    assert ones_share(a_RG, [2, 2]) == pytest.approx(sum(c * c for c in cosines) / 4)


def test_a_direction_drawn_at_random_has_one_part_in_g() -> None:
    a_RG = torch.randn(4000, 25, generator=torch.Generator().manual_seed(0))
    assert ones_share(a_RG, [25]) == pytest.approx(1 / 25, rel=0.1)
    centred_RG = a_RG - a_RG.mean(dim=1, keepdim=True)
    assert ones_share(centred_RG, [25]) < 1e-12
    assert ones_share(3 + 0 * a_RG, [25]) == pytest.approx(1)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_layers_are_measured_in_both_directions_without_padding(kind: type) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, bidirectional=True, norm="ln")
    x_TBI, lengths = torch.randn(5, 2, 3), [5, 2]
    with torch.no_grad(), ones_shares(layer) as found:
        out, _ = layer(x_TBI, lengths=lengths)
    for share, name, columns in zip(found, ("l0", "l0_reverse"), (slice(0, 4), slice(4, 8)), strict=True):
        rows = torch.cat([out[: lengths[b], b, columns] for b in range(2)])
        expected = ones_share(rows @ getattr(layer, f"weight_hh_{name}").t(), layer.cell.groups(4))
        assert share == pytest.approx(expected)
    layer(x_TBI)
    assert len(found) == 2  # the hooks are gone


def test_a_run_logs_it_at_its_evaluations_and_nothing_else_changes(smoke_of: dict[str, list[str]]) -> None:
    of_task = [*smoke_of["question_answering"], "norm=rms"]
    rows = {}
    for switch in ("null", "true"):
        cfg = config.compose([*of_task, f"ones_share={switch}"])
        run.run(cfg)
        rows[switch] = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in read_rows(run_folder(cfg))]
    shares = [row for row in rows["true"] if row["split"] == "recurrent"]
    assert [row["step"] for row in shares] == ["10", "20", "30"]
    assert all(0 < float(row["value"]) < 1 and row["metric"] == "ones_share" for row in shares)
    assert [row for row in rows["true"] if row["split"] != "recurrent"] == rows["null"]


def test_a_wrong_switch_is_named(smoke: list[str]) -> None:
    with pytest.raises(UserError, match="ones_share=yes: allowed are true, null"):
        config.read(config.compose([*smoke, "ones_share=yes"]))
