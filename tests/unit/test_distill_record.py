"""Protection of a run against being overwritten, continued with other settings, or exported too early by mistake."""

import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from varestorer_core.distill.export import last_step
from varestorer_core.distill.held_out import worse_than_input
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import STAGES, loop_settings, run_export, run_stage
from varestorer_core.distill.run.record import differences, read_record, stage_record, trained_after
from varestorer_core.distill.train_student import StudentSettings
from varestorer_core.distill.train_tokenizer import TokenizerSettings
from varestorer_core.errors import CheckpointError

STEPS = dict.fromkeys(STAGES, 1)


def step_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)["step"]


@pytest.fixture
def settings(tmp_path, micro_run):
    return micro_run(tmp_path / "run", steps={"tokenizer": 1}, validation_pictures=1)


def test_a_stage_is_neither_repeated_nor_overwritten_by_mistake(settings):
    run_stage("tokenizer", settings)
    state = settings.out / "tokenizer" / "state.pt"
    before = state.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"holds a training state of step 1.*--resume.*--overwrite"
    ):
        run_stage("tokenizer", settings)
    assert state.read_bytes() == before
    again = dataclasses.replace(settings, seed=1, overwrite=True)
    assert run_stage("tokenizer", again)
    assert state.read_bytes() != before
    assert read_record(state.parent)["settings"]["loop"]["seed"] == 1


def test_overwriting_leaves_no_state_of_the_earlier_run(settings, monkeypatch):
    run_stage("tokenizer", settings)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("varestorer_core.distill.run.stages.train_stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stage("tokenizer", dataclasses.replace(settings, overwrite=True))
    assert not list(settings.out.rglob("state.pt"))


def test_other_settings_are_refused_with_a_list_of_them(settings):
    run_stage("tokenizer", settings)
    other = dataclasses.replace(
        settings, seed=3, learning_rate=0.5, steps={"tokenizer": 2}, resume=True,
        tokenizer_settings=TokenizerSettings(batch=2, commitment=0.2), pictures=5,
    )  # fmt: skip
    with pytest.raises(CheckpointError) as caught:
        run_stage("tokenizer", other)
    text = str(caught.value)
    for line in (
        "loop.steps: 2 instead of 1",
        "loop.learning_rate: 0.5 instead of 0.0008",
        "loop.seed: 3 instead of 0",
        "settings.batch: 2 instead of 4",
        "settings.commitment: 0.2 instead of 0.1",
        "data.procedural: 5 instead of 4",
        "--allow-changes",
    ):
        assert line in text
    assert step_of(settings.out / "tokenizer") == 1
    more = dataclasses.replace(settings, steps={"tokenizer": 2}, resume=True, allow_changes=True)
    assert run_stage("tokenizer", more)
    record = read_record(settings.out / "tokenizer")
    assert record["settings"]["loop"]["steps"] == 2
    (earlier,) = record["earlier"]
    assert earlier["until_step"] == 1
    assert trained_after(settings.out / "tokenizer", 1) == earlier["before"]
    assert earlier["loop"]["steps"] == 1


def test_the_record_names_the_data_by_count_and_content(tmp_path, micro_run):
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(3):
        picture = Image.fromarray(generate_picture(0, index, size=40))
        picture.save(folder / f"{index}.png")
    settings = micro_run(tmp_path / "run", data=folder)

    def record():
        return stage_record("tokenizer", settings, loop_settings("tokenizer", settings))

    first = record()
    assert first["data"]["count"] == 2
    assert first["validation"]["count"] == 1
    assert {"varestorer", "torch", "numpy", "python"} <= first["versions"].keys()
    assert record() == first
    picture.resize((48, 48)).save(folder / "2.png")
    assert record() != first


def test_a_record_that_is_damaged_is_named(settings):
    run_stage("tokenizer", settings)
    (settings.out / "tokenizer" / "settings.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"settings\.json is damaged"):
        run_stage("tokenizer", dataclasses.replace(settings, resume=True))


def test_a_run_without_a_record_can_be_continued(settings):
    run_stage("tokenizer", settings)
    (settings.out / "tokenizer" / "settings.json").unlink()
    more = dataclasses.replace(settings, steps={"tokenizer": 2}, resume=True)
    assert run_stage("tokenizer", more)
    assert read_record(settings.out / "tokenizer")["settings"]["loop"]["steps"] == 2


def test_differences_by_hand():
    before = {"a": 1, "b": {"c": [1], "d": None}, "e": 5}
    now = {"a": 1, "b": {"c": [2], "d": "x"}, "f": 0}
    assert list(differences(before, now)) == [
        "b.c: [2] instead of [1]",
        'b.d: "x" instead of nothing',
        "e: nothing instead of 5",
        "f: 0 instead of nothing",
    ]


def test_export_names_its_step_and_refuses_an_older_state(tmp_path, micro_run, caplog):
    student = StudentSettings(batch=1, lora_rank=1)
    settings = micro_run(tmp_path, steps=STEPS, validation_pictures=1, student_settings=student)
    for stage in ("tokenizer", "teacher", "student"):
        run_stage(stage, settings)
    caplog.set_level("INFO")
    adapter = run_export(settings, note="")[1]
    assert "exporting the student at step 1 of 1" in caplog.text
    assert "worse than their degraded inputs" in caplog.text
    with safe_open(adapter, "pt") as file:
        training = json.loads(file.metadata()["varestorer.training"])
    assert training["step"] == 1
    assert training["settings"]["kl"] == student.kl
    assert training["loop"]["learning_rate"] == 5e-4
    assert training["before"]["tokenizer"]["step"] == 1

    with (tmp_path / "student" / "log.csv").open("a") as log:
        log.write("7,loss,1\n")
    assert last_step(tmp_path / "student" / "log.csv") == 8
    with pytest.raises(CheckpointError, match="the run reached step 8, the last saved one is 1"):
        run_export(settings, note="")
    run_export(dataclasses.replace(settings, allow_changes=True), note="")
    assert "exporting an older state" in caplog.text

    run_stage("tokenizer", dataclasses.replace(settings, seed=9, overwrite=True))
    with pytest.raises(CheckpointError, match="the tokenizer has been trained since the student"):
        run_export(settings, note="")
    with pytest.raises(CheckpointError, match=r"before\.tokenizer\.sha256"):
        run_stage("student", dataclasses.replace(settings, resume=True))


def test_a_student_that_is_worse_than_its_input_says_so():
    good = {"val_psnr": 20.0, "val_psnr_lq": 19.0, "val_ssim": 0.5, "val_ssim_lq": 0.5}
    assert worse_than_input(good) is None
    assert worse_than_input({"val_loss": 1.0}) is None
    text = worse_than_input({**good, "val_psnr": 15.7, "val_psnr_lq": 19.3})
    assert text is not None
    assert "PSNR 15.70 instead of 19.30" in text
    assert "SSIM" not in text


def test_settings_count_once_something_was_trained_with_them(tmp_path):
    record = {
        "settings": {"before": {"tokenizer": "c"}},
        "earlier": [
            {"until_step": 2, "before": {"tokenizer": "a"}},
            {"until_step": 5, "before": {"tokenizer": "b"}},
        ],
    }
    (tmp_path / "settings.json").write_text(json.dumps(record))
    trained = [trained_after(tmp_path, step)["tokenizer"] for step in (1, 2, 3, 5, 6)]
    assert trained == ["a", "a", "b", "b", "c"]
    assert trained_after(tmp_path / "none", 3) is None
