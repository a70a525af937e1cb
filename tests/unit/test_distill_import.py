"""A run that begins with exported files: same weights, continued without optimiser and teacher."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, read_checkpoint
from varestorer_core.cli.main import main
from varestorer_core.distill.export import export_model, trained_weights
from varestorer_core.distill.run import importing
from varestorer_core.distill.run.record import stages_before
from varestorer_core.distill.state import read_state, write_whole
from varestorer_core.errors import CheckpointError

SMALL = ("--pictures", "2", "--validation-pictures", "2", "--workers", "0", "--batch", "1")


@pytest.fixture
def imported(tmp_path):
    assert main(["distill", "import", "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_export_returns_the_imported_weights(imported):
    assert main(["distill", "export", "--out", str(imported)]) == 0
    for name in (TINY_TRANSFORMER, TINY_TOKENIZER):
        before, after = load_file(asset_path(name)), load_file(imported / "export" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_student_and_decoder_continue(imported, caplog):
    before = trained_weights(imported / "student" / "state.pt", "student")
    command = ["distill", "student", "--out", str(imported), "--resume", "--train-decoder", *SMALL]
    caplog.set_level("INFO", "varestorer_core")
    assert main([*command, "--steps", "1", "--evaluate-every", "1", "--learning-rate", "1e-6"]) == 0
    assert "there is no teacher" in caplog.text
    after = trained_weights(imported / "student" / "state.pt", "student")
    assert max((after[name] - value).abs().max() for name, value in before.items()) < 1e-5
    with (imported / "student" / "log.csv").open() as file:
        logged = {name for _, name, _ in csv.reader(file)}
    assert {"val_psnr", "mse"} <= logged
    assert "kl" not in logged
    # The state now has an optimiser, but still no teacher.
    assert main([*command, "--steps", "2", "--allow-changes", "--learning-rate", "1e-6"]) == 0


def test_decoder_stage_continues(imported):
    stage = ["distill", "student_decoder", "--out", str(imported), "--steps", "1"]
    assert main([*stage, *SMALL]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no.safetensors"], "--model and --vae belong together"),
        (["--model", "no.safetensors", "--vae", "no.safetensors"], "no such file"),
        (["--base", "no.safetensors"], "--base has no effect in the stage import"),
        (["--steps", "3"], "--steps has no effect in the stage import"),
        (["--resume"], "--resume has no effect in the stage import"),
        (["--model", ".", "--vae", "."], "--model .: not a file"),
        (["--config", "c.json"], "--config has no effect in the stage import"),
    ],
)
def test_options(tmp_path, capsys, arguments, message):
    assert main(["distill", "import", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_model_only_in_import(tmp_path, capsys):
    assert main(["distill", "student", "--out", str(tmp_path), "--model", "no"]) == 2
    assert "only in import" in capsys.readouterr().err


def test_existing_run_is_kept(imported, capsys):
    assert main(["distill", "import", "--out", str(imported)]) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_files_of_another_kind(tmp_path, capsys):
    tokenizer, transformer = (str(asset_path(n)) for n in (TINY_TOKENIZER, TINY_TRANSFORMER))
    swapped = ["--model", tokenizer, "--vae", transformer]
    assert main(["distill", "import", "--out", str(tmp_path / "run"), *swapped]) == 1
    assert "is a visual tokenizer (VAE). Expected a student such as" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_name(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "import", "--out", ""])
    assert "expected the name of a folder" in capsys.readouterr().err


def test_new_student_needs_a_teacher(imported, capsys):
    assert main(["distill", "student", "--out", str(imported), "--steps", "1", *SMALL]) == 1
    assert "was started with a student" in capsys.readouterr().err


def test_export_of_an_empty_folder_leaves_no_config(tmp_path, capsys):
    assert main(["distill", "export", "--out", str(tmp_path)]) == 1
    assert "Train it first" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()


def test_ablation_needs_a_teacher(imported, capsys):
    command = ["distill", "ablation", "--out", str(imported), "--steps", "1", "--size", "64"]
    assert main([*command, *SMALL]) == 1
    assert "Train it first: varestorer distill teacher" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["student", "tokenizer"])
def test_lost_states_are_not_replaced_by_others(imported, lost, capsys):
    (imported / lost / "state.pt").unlink()
    for command in (["student", "--resume", "--steps", "1", *SMALL], ["export"]):
        assert main(["distill", *command, "--out", str(imported)]) == 1
        assert "Import the files again, into another --out" in capsys.readouterr().err


def test_adapters_are_refused_before_anything_is_written(imported, capsys):
    command = ["distill", "student", "--out", str(imported), "--resume", "--rank", "8"]
    assert main([*command, "--steps", "1", *SMALL]) == 1
    assert "Leave --rank out" in capsys.readouterr().err
    assert not (imported / "student" / "settings.json").exists()


def test_an_interrupted_import_is_repeated(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    write = importing.write_whole

    def full_disk(path, content):
        if path.parent.name == "student":
            raise CheckpointError("No space left on device.")
        write(path, content)

    monkeypatch.setattr(importing, "write_whole", full_disk)
    assert main(["distill", "import", "--out", str(run)]) == 1
    assert main(["distill", "student", "--out", str(run), "--resume", *SMALL]) == 1
    assert "was interrupted. Repeat it: varestorer distill import" in capsys.readouterr().err
    assert main(["distill", "export", "--out", str(run)]) == 1
    monkeypatch.setattr(importing, "write_whole", write)
    assert main(["distill", "import", "--out", str(run)]) == 0
    assert main(["distill", "export", "--out", str(run)]) == 0


def test_export_notices_a_tokenizer_that_the_student_does_not_know(imported, capsys):
    path = imported / "tokenizer" / "state.pt"
    write_whole(path, {**read_state(path), "step": 7})
    assert main(["distill", "export", "--out", str(imported)]) == 1
    assert "the tokenizer has been trained since the student was" in capsys.readouterr().err


def test_a_student_is_older_until_it_was_trained(imported, capsys):
    """Not only until its training was started: the record is written before the first state."""
    path = imported / "tokenizer" / "state.pt"
    write_whole(path, {**read_state(path), "step": 7})
    record = {"settings": {"before": stages_before("student", imported)}, "earlier": []}
    (imported / "student" / "settings.json").write_text(json.dumps(record))
    assert main(["distill", "export", "--out", str(imported)]) == 1
    assert "the tokenizer has been trained since the student was" in capsys.readouterr().err


def test_export_notices_decoders_that_are_older_than_the_student(imported, capsys):
    command = ["--out", str(imported), *SMALL]
    assert main(["distill", "student_decoder", "--steps", "1", *command]) == 0
    assert main(["distill", "export", "--out", str(imported)]) == 0
    assert main(["distill", "student", "--resume", "--steps", "1", *command]) == 0
    assert main(["distill", "export", "--out", str(imported)]) == 1
    assert "the student has been trained since the student_decoder was" in capsys.readouterr().err
    assert main(["distill", "export", "--out", str(imported), "--allow-changes"]) == 0


def test_the_adversarial_loss_begins_with_a_new_discriminator(imported):
    command = ["distill", "student", "--out", str(imported), "--resume", "--adversarial", "0.1"]
    assert main([*command, "--steps", "1", *SMALL]) == 0
    assert "adversary" in read_state(imported / "student" / "state.pt")["modules"]


def test_base_files_on_an_imported_run(imported, capsys):
    files = [str(asset_path(n)) for n in (TINY_TRANSFORMER, TINY_TOKENIZER)]
    command = ["distill", "student", "--out", str(imported), "--base", files[0], "--vae", files[1]]
    assert main([*command, "--steps", "1", *SMALL]) == 1
    assert "began with imported files" in capsys.readouterr().err


def test_files_of_other_tiles(tmp_path, capsys):
    tensors, metadata = read_checkpoint(asset_path(TINY_TOKENIZER), kind="tokenizer")
    tokenizer = load_tokenizer(tensors, metadata, name="t", consume=True)
    tokenizer.config = replace(tokenizer.config, pixel_class="0.25M")
    export_model(tokenizer, tmp_path / "other.safetensors", "")
    files = [
        "--model",
        str(asset_path(TINY_TRANSFORMER)),
        "--vae",
        str(tmp_path / "other.safetensors"),
    ]
    assert main(["distill", "import", "--out", str(tmp_path / "run"), *files]) == 1
    assert "do not belong together. Expected the same tiles" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_damaged_configuration_is_kept(imported, capsys):
    (imported / "config.json").write_text("no JSON")
    assert main(["distill", "import", "--out", str(imported)]) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert (imported / "config.json").read_text() == "no JSON"
