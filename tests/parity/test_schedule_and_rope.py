"""Scale schedules and rotary coordinates exactly, rotary tables and rotations to 1e-5."""

import json
import re

import pytest
import torch

from varestorer_core.models.rope import apply_rope, grid_coordinates, rope_table
from varestorer_core.schedule import RATIOS, get_schedule

LIMIT = 1e-5


def test_schedules(goldens):
    path = goldens.folder / "schedule.json"
    if not path.exists():
        pytest.skip("the set has no schedule.json")
    recorded = json.loads(path.read_text())
    assert [float(r) for r in recorded["h_div_w_templates_in_order"]] == list(RATIOS)
    for ratio, classes in recorded["schedules"].items():
        for pixel_class, expected in classes.items():
            schedule = get_schedule(float(ratio), pixel_class)
            assert [list(g) for g in schedule.grids] == [g[1:] for g in expected["scales_thw"]]
            assert schedule.num_tokens == expected["tokens"]
            assert schedule.num_tokens_long == expected["tokens_long"]
            assert list(schedule.pixel_size(recorded["vae_stride"])) == expected["pixel_hw"]


def test_coordinates(goldens):
    for match, expected_y in goldens.recorded("rope", r"out\.ratio([\d.]+)\.row_y"):
        tensors, schedule = goldens.load("rope"), get_schedule(float(match[1]), "1M")
        y, x = grid_coordinates(schedule).unbind(-1)
        assert torch.equal(y, expected_y.float()), match[0]
        assert torch.equal(x, tensors[f"out.ratio{match[1]}.row_x"].float()), match[0]
        grids = tensors[f"out.ratio{match[1]}.scales_hw"]
        assert [list(g) for g in schedule.full_grids] == grids.tolist()


def test_tables(goldens, close):
    for match, rows in goldens.recorded("rope", r"out\.ratio([\d.]+)\.dim(\d+)\.rows"):
        tensors, stem = goldens.load("rope"), match[0].removesuffix(".rows")
        schedule, dim = get_schedule(float(match[1]), "1M"), int(match[2])
        cos, sin = rope_table(schedule, dim, 0, int(rows.max()) + 1)
        close(f"{stem}.cos", cos[rows.long()], tensors[f"{stem}.cos"], LIMIT)
        close(f"{stem}.sin", sin[rows.long()], tensors[f"{stem}.sin"], LIMIT)


def test_rotation(goldens, close):
    tensors = goldens.load("rope")
    said = goldens.description("rope")
    ratio = re.search(r"apply\.\*.*?of ratio ([\d.]+)", said)
    schedule = get_schedule(float(ratio[1]) if ratio else goldens.small.ratio, "1M")
    for match, expected in goldens.recorded("rope", r"out\.apply(?:_scale_ind(\d+))?\.([qk])"):
        start, length = 0, expected.shape[2]
        if match[1]:
            start = schedule.spans[int(match[1])][0]
        x = tensors[f"in.{match[2]}"]
        table = rope_table(schedule, x.shape[-1], start, length)
        close(match[0], apply_rope(x[:, :, :length], *table), expected, 5 * LIMIT)
