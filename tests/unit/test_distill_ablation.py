"""The ablation with tiny networks: differences between variants, resuming, and the table."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from varestorer_core.cli.main import main
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.distill import ablation as module
from varestorer_core.distill.ablation import AblationSettings, run_ablation
from varestorer_core.distill.ablation_table import ablation_markdown, summary
from varestorer_core.distill.run import STAGES, RunSettings, run_stage
from varestorer_core.distill.run.lock import locked
from varestorer_core.distill.train_student import StudentSettings
from varestorer_core.distill.variants import VARIANTS
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.evaluate import Scores

SMALL = AblationSettings(scale=2, size=48, overlap=8)


@pytest.fixture
def photographs(tmp_path):
    paths = []
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).resize((56, 48), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture
def settings(tmp_path):
    """Return a run with a tokenizer and a teacher of one step each; its tile is 32 pixels."""
    run = RunSettings(
        out=tmp_path / "run",
        pictures=2,
        picture_size=40,
        validation_pictures=1,
        steps=dict.fromkeys(STAGES, 1),
        tokenizer=TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1),
        transformer=TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M"),
        student_settings=StudentSettings(batch=1),
    )
    for stage in ("tokenizer", "teacher"):
        run_stage(stage, run)
    return run


def test_each_variant_leaves_out_what_its_name_says():
    full = StudentSettings()
    got = {name: dataclasses.asdict(change(full)) for name, change in VARIANTS.items()}
    wanted = {
        "full": {},
        "no distillation": {"kl": 0, "mse": 0, "perceptual_weight": 0, "cross_entropy": 1},
        "no cross-scale": {"causal": True},
        "no KL": {"kl": 0},
    }
    assert got == {name: dataclasses.asdict(full) | change for name, change in wanted.items()}


def test_every_variant_is_trained_once_and_measured(settings, photographs, monkeypatch):
    trained = []
    plain = module.train_stage
    monkeypatch.setattr(
        module, "train_stage", lambda *a, **k: trained.append(a[0]) or plain(*a, **k)
    )
    document = run_ablation(settings, SMALL, photographs)
    folder = settings.out / "ablation"
    assert [path.parent.name for path in trained] == [
        *("full", "no-distillation", "no-cross-scale", "no-KL")
    ]
    assert list(document["rows"]) == [*module.REFERENCES, *VARIANTS]
    assert json.loads((folder / "ablation.json").read_text()) == document
    assert document["spread"] == "photographs"
    gain = document["rows"]["no KL"]["minus_full"]["gmsd"]["mean"]
    means = [document["rows"][name]["scores"]["gmsd"]["mean"] for name in ("no KL", "full")]
    assert gain == pytest.approx(means[0] - means[1])

    again = run_ablation(settings, SMALL, photographs)
    assert again == document
    assert len(trained) == 4

    # Interrupted: finished variants are kept, unfinished ones are continued.
    (folder / "no-KL" / "seed-0" / "result.json").unlink()
    two = dataclasses.replace(SMALL, seeds=(0, 1))
    document = run_ablation(settings, two, photographs)
    assert len(trained) == 4 + 1 + 4
    assert document["spread"] == "seeds"
    assert document["rows"]["full"]["seeds"] == [0, 1]
    assert document["rows"]["no KL"]["scores"]["psnr"]["spread"] is not None
    table = (folder / "table.md").read_text()
    assert "the standard deviation over the seeds 0, 1" in table

    other = dataclasses.replace(settings, steps=dict.fromkeys(STAGES, 2))
    with pytest.raises(CheckpointError, match="with other settings: steps: 2 instead of 1"):
        run_ablation(other, SMALL, photographs)
    student = dataclasses.replace(settings.student_settings, kl=0.5)
    other = dataclasses.replace(settings, student_settings=student)
    with pytest.raises(CheckpointError, match=r"settings: student\.kl: 0\.5 instead of 0\.1\. Use"):
        run_ablation(other, SMALL, photographs)

    # Finished variants were trained from another teacher, or measured on another picture.
    photographs[0].write_bytes(photographs[1].read_bytes())
    with pytest.raises(CheckpointError, match="settings: contents: "):
        run_ablation(settings, SMALL, photographs)
    run_stage("teacher", dataclasses.replace(settings, overwrite=True, learning_rate=1e-4))
    with pytest.raises(CheckpointError, match=r"settings: before\.teacher\.sha256: "):
        run_ablation(settings, SMALL, photographs)


def test_seeds_are_trained_one_after_the_other(settings, photographs, monkeypatch):
    """Procedural pictures depend on the seed, so alternating seeds would draw them for every variant."""
    drawn = []
    plain = module.training_source
    monkeypatch.setattr(
        module, "training_source", lambda run, report: drawn.append(run.seed) or plain(run, report)
    )
    run_ablation(settings, dataclasses.replace(SMALL, seeds=(0, 1)), photographs)
    assert drawn == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_refused_comparison_leaves_nothing_behind(settings, photographs, tmp_path):
    """Neither a config.json, which would stop a later run with --base, nor a plan that other options contradict."""
    empty = dataclasses.replace(settings, out=tmp_path / "empty")
    with pytest.raises(CheckpointError, match="Train it first"):
        run_ablation(empty, SMALL, photographs)
    assert [path.name for path in empty.out.iterdir()] == [".lock"]

    (settings.out / "teacher" / "state.pt").unlink()
    with pytest.raises(CheckpointError, match="Train it first"):
        run_ablation(settings, SMALL, photographs)
    run_stage("teacher", dataclasses.replace(settings, overwrite=True))
    assert run_ablation(settings, dataclasses.replace(SMALL, size=40), photographs)


def test_one_process_at_a_time(settings, photographs):
    with locked(settings.out), pytest.raises(SettingError, match="in use by another process"):
        run_ablation(settings, SMALL, photographs)


def test_the_command_sets_the_photographs_degradation(monkeypatch, tmp_path, photographs):
    wanted = []

    def run(settings, ablation, found, report):
        wanted.append((ablation, [path.name for path in found]))
        raise CheckpointError("Enough.")

    monkeypatch.setattr(module, "run_ablation", run)
    command = [
        "distill",
        "ablation",
        "--out",
        str(tmp_path / "run"),
        "--photographs",
        str(tmp_path),
    ]
    assert main([*command, "--preset", "social", "--scale", "2", "--size", "128"]) == 1
    assert wanted == [
        (AblationSettings(preset="social", scale=2, size=128), [path.name for path in photographs])
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--train-decoder"], "leave out --train-decoder"),
        (["--size", "100", "--scale", "3"], "--size 100 must be a multiple of --scale 3"),
    ],
)
def test_comparisons_that_are_not_fair_are_refused(options, sentence, tmp_path, capsys):
    assert main(["distill", "ablation", "--out", str(tmp_path / "run"), *options]) == 2
    assert sentence in capsys.readouterr().err


def scores(value):
    return Scores(psnr=value, ssim=0.5, gmsd=0.1, ms_ssim=0.9, gradient_energy=0.2)


def test_spreads_by_hand():
    results = {
        "Lanczos": {0: [scores(20.0), scores(24.0)]},
        "full": {0: [scores(22.0), scores(26.0)], 1: [scores(23.0), scores(27.0)]},
        "no KL": {0: [scores(21.0), scores(25.0)], 1: [scores(20.0), scores(24.0)]},
    }
    rows = summary(results, references=("Lanczos",))["rows"]
    assert rows["full"]["scores"]["psnr"] == pytest.approx({"mean": 24.5, "spread": 0.5**0.5})
    minus = rows["no KL"]["minus_full"]["psnr"]
    assert minus == pytest.approx({"mean": -2.0, "spread": 2**0.5})
    assert "minus_full" not in rows["Lanczos"]

    one = {name: {0: by_seed[0]} for name, by_seed in results.items()}
    rows = summary(one, references=("Lanczos",))["rows"]
    # Two pictures 4 dB apart: a resampled mean is 22, 24 (twice as likely) or 26.
    assert rows["full"]["scores"]["psnr"]["spread"] == pytest.approx(2**0.5, rel=0.1)
    assert rows["no KL"]["minus_full"]["psnr"] == pytest.approx({"mean": -1.0, "spread": 0.0})


def test_the_table_for_people():
    results = {name: {0: [scores(20.0 + i)] * 2} for i, name in enumerate(("Lanczos", *VARIANTS))}
    plan = {
        "photographs": ["a.png", "b.png"],
        "size": 256,
        "preset": "x4",
        "scale": 4,
        "steps": 7,
        "student": {"batch": 4},
    }
    document = {"plan": plan, **summary(results, references=("Lanczos",))}
    lines = ablation_markdown(document).splitlines()
    assert lines[0].startswith("2 photographs of 256 x 256, preset x4, scale 4, seed 0; 7 steps")
    assert "| Lanczos | 20.00 (0.00) | 0.5000 (0.0000) |" in lines[4]
    assert "| no KL minus full | +3.00 (0.00) |" in lines[-1]
