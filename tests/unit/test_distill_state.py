"""Training states on disk."""

import pytest
import torch
from toy_training import linear, run

from varestorer_core.errors import CheckpointError


def test_a_state_whose_lists_share_lists_is_refused_at_once(tmp_path):
    """PyTorch would visit every one of the 2 ** 60 values."""
    run(tmp_path, linear(), steps=1)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    shared: list[object] = [0.0]
    for _ in range(60):
        shared = [shared, shared]
    state["optimizer"]["state"][0]["step"] = shared
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="nests more than 10 lists"):
        run(tmp_path, linear(), resume=True)
    shared = [0.0] * 1000
    for _ in range(3):
        shared = [shared] * 1000
    state["optimizer"]["state"][0]["step"] = shared
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="more than 1,000,000 values"):
        run(tmp_path, linear(), resume=True)
