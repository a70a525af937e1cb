"""The choice of the perceptual loss, and LPIPS with and without its package and weights."""

import pytest
import torch
from numeric import pair

from varestorer_core.distill import losses, perceptual
from varestorer_core.distill.train_student import StudentSettings
from varestorer_core.errors import SettingError


def test_the_perceptual_loss_is_the_structural_one_by_default(caplog):
    a, b = pair(1, 3, 32, 32)
    with caplog.at_level("INFO"):
        loss = perceptual.perceptual_loss("structural")
    assert float(loss(a, b)) == float(losses.structural_loss(a, b))
    assert "perceptual loss: structural" in caplog.text


def test_lpips_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", None)
    message = "pip install lpips, or use --perceptual structural"
    with pytest.raises(SettingError, match=message):
        StudentSettings(perceptual="lpips")  # before any stage of `distill all`
    with pytest.raises(SettingError, match=message):
        perceptual.perceptual_loss("lpips")


class FakePackage:
    """Replaces lpips: mean absolute difference per picture."""

    class LPIPS(torch.nn.Module):
        def __init__(self, net: str, verbose: bool):
            super().__init__()
            assert net == "vgg"
            assert not verbose
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True) * self.weight


def test_lpips_without_weights_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", FakePackage)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SettingError, match=perceptual.BACKBONE_FILE):
        perceptual.perceptual_loss("lpips")


def test_lpips_is_frozen_and_averaged(monkeypatch, tmp_path):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", FakePackage)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / perceptual.BACKBONE_FILE).touch()
    a, b = pair(2, 3, 8, 8)
    loss = perceptual.perceptual_loss("lpips")(a.requires_grad_(True), b)
    assert float(loss.detach()) == pytest.approx(float((a - b).detach().abs().mean()))
    loss.backward()
    assert a.grad is not None


def test_another_perceptual_loss_is_refused():
    with pytest.raises(SettingError, match="structural, lpips"):
        StudentSettings(perceptual="vgg")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SettingError, match="structural, lpips"):
        perceptual.perceptual_loss("vgg")  # pyright: ignore[reportArgumentType]
