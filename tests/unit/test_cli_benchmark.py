"""`varestorer benchmark` from folders to a report."""

import base64
import csv
import io
import json
import re
import shutil
import sys
import types

import numpy as np
import pytest
import tifffile
from PIL import Image

from varestorer_core.benchmark import scoring
from varestorer_core.cli.main import main
from varestorer_core.distill.procedural import generate_picture

KEYS = ("one", "two", "three")


@pytest.fixture
def folders(tmp_path):
    """Return folders of references, LQ pictures and results: noise of growing strength."""
    generator = np.random.default_rng(0)
    for index, key in enumerate(KEYS):
        pixels = generate_picture(0, index, size=64)
        strengths = {"HQ": 0, "good": 4, "bad": 12}
        for name, strength in strengths.items():
            (tmp_path / name).mkdir(exist_ok=True)
            noise = generator.normal(0, 1, pixels.shape) * strength
            image = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
            image.save(tmp_path / name / (f"{key}.png" if name == "HQ" else f"{key}_{name}.png"))
        (tmp_path / "LQ").mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((16, 16)).save(tmp_path / "LQ" / f"{key}.png")
    return tmp_path


def run(folders, *more, methods=("bad", "good")):
    paths = [str(folders / name) for name in methods]
    options = ["--reference", str(folders / "HQ"), "--lq", str(folders / "LQ")]
    return main(["benchmark", *paths, *options, "-o", str(folders / "out"), *map(str, more)])


def test_the_page_shows_every_picture_that_was_measured(folders, capsys):
    """As the measures read it: float TIFF, and JPEG that is stored on its side."""
    reference = Image.open(folders / "HQ" / "one.png").crop((0, 0, 64, 48))
    reference.save(folders / "HQ" / "one.png")
    (folders / "good" / "one_good.png").unlink()
    tifffile.imwrite(
        folders / "good" / "one.tif", np.asarray(reference, np.float32) / 255, photometric="rgb"
    )
    (folders / "bad" / "one_bad.png").unlink()
    turned = Image.Exif()
    turned[0x0112] = 6
    reference.rotate(90, expand=True).save(folders / "bad" / "one.jpg", exif=turned)
    assert run(folders) == 0
    text = (folders / "out" / "index.html").read_text()
    urls = re.findall(r"data:image/webp;base64,([^\"]+)", text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(url))).size for url in urls]
    assert sizes.count((64, 48)) == 4  # reference, LQ and both methods
    assert set(sizes) == {(64, 48), (64, 64)}


def test_the_report(folders, capsys):
    (folders / "good" / "stray.png").touch()
    assert run(folders, "--paper", "DIV2K-Val") == 0
    printed = capsys.readouterr()
    assert "stray.png: no reference has its name" in printed.err
    document = json.loads(printed.out.splitlines()[-1])
    means = {line["method"]: line["mean"] for line in document["methods"]}
    assert means["good"]["psnr_y"] > means["bad"]["psnr_y"] + 5
    assert means["good"]["ssim_y"] > means["LQ"]["ssim_y"]
    assert "niqe" not in means["good"]  # too small for it: an empty column
    assert means["DiffBIR (paper)"]["musiq"] == 69.87
    (difference,) = [d for d in document["differences"] if d["method"] == "good - bad"]
    gain = means["good"]["psnr_y"] - means["bad"]["psnr_y"]
    assert difference["mean"]["psnr_y"] == pytest.approx(gain)
    assert difference["standard_error"]["psnr_y"] > 0

    out = folders / "out"
    with (out / "per_image.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["reference"]) for line in lines[-3:]] == [
        ("good", key) for key in sorted(KEYS)
    ]
    assert lines[0]["niqe"] == ""
    mean = sum(float(line["psnr_y"]) for line in lines if line["method"] == "good") / 3
    assert mean == pytest.approx(means["good"]["psnr_y"])
    table = (out / "table.md").read_text()
    assert f"**{means['good']['psnr_y']:.2f} (" in table
    assert "| VARestorer (paper) | 21.08 |" in table
    assert "| good - bad | +" in table
    latex = (out / "table.tex").read_text()
    assert rf"\textbf{{{means['good']['psnr_y']:.2f}}}" in latex
    assert r"\underline{" in latex
    page = (out / "index.html").read_text()
    assert page.count("data:image/webp;base64,") == len(KEYS) * 4
    assert "http" not in page.replace("http-equiv", "")


def test_plots(folders):
    pytest.importorskip("matplotlib")
    assert run(folders) == 0
    for name in ("bars", "scatter", "spectra"):
        with Image.open(folders / "out" / f"{name}.png") as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10


def test_one_picture_and_names_that_latex_and_html_escape(folders, capsys):
    for path in sorted((folders / "HQ").iterdir())[1:]:
        path.unlink()
    options = ["--reference", str(folders / "HQ"), "-o", str(folders / "out")]
    name = "<a|b>"
    methods = [f"{name}={folders / 'bad'}", str(folders / "good")]
    assert main(["benchmark", *methods, *options, "--measures", "psnr_y"]) == 0
    table = (folders / "out" / "table.md").read_text()
    assert table.startswith("1 picture. PSNR (Y)")
    assert "In parentheses: standard error of the mean." in table
    latex = (folders / "out" / "table.tex").read_text()
    assert r"\textless{}a\textbar{}b\textgreater{}" in latex
    page = (folders / "out" / "index.html").read_text()
    assert "&lt;a|b&gt;" in page
    assert name not in page
    assert "In parentheses" not in page  # the page's table has no standard errors


def test_no_scatter_plot_without_points(folders, recwarn):
    pytest.importorskip("matplotlib")
    (folders / "out").mkdir()
    (folders / "out" / "scatter.png").write_bytes(b"of an earlier report")
    shutil.copytree(folders / "HQ", folders / "same")
    reference, out = str(folders / "HQ"), str(folders / "out")
    options = ["--reference", reference, "-o", out, "--measures", "psnr_y,ssim_y"]
    assert main(["benchmark", str(folders / "same"), *options]) == 0
    assert (folders / "out" / "bars.png").exists()
    assert not (folders / "out" / "scatter.png").exists()
    assert not [warning for warning in recwarn if "legend" in str(warning.message)]


def test_no_plots_without_matplotlib(folders, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(folders) == 0
    assert 'no plots: Plots need matplotlib. Install it with "pip install matplotlib"' in (
        capsys.readouterr().err
    )
    assert not (folders / "out" / "bars.png").exists()


def test_a_stopped_run_continues(folders, monkeypatch, capsys):
    measured = []
    real = scoring._measured

    def stopping(file, *rest):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(file.name)
        return real(file, *rest)

    monkeypatch.setattr(scoring, "_measured", stopping)
    assert run(folders) == 130
    journal = folders / "out" / "scores.jsonl"
    with journal.open("a") as file:
        file.write('{"identity": "half a li')
    monkeypatch.setattr(
        scoring, "_measured", lambda file, *rest: (measured.append(file.name), real(file, *rest))[1]
    )
    assert run(folders) == 0
    assert len(measured) == len(set(measured)) == 3 * len(KEYS)
    # A changed result is measured again, and nothing else.
    measured.clear()
    Image.new("RGB", (64, 64)).save(folders / "bad" / "two_bad.png")
    assert run(folders) == 0
    assert measured == ["two_bad.png"]
    capsys.readouterr()


def test_a_result_of_another_size_is_named(folders, capsys):
    Image.new("RGB", (32, 32)).save(folders / "bad" / "two_bad.png")
    assert run(folders) == 1
    printed = capsys.readouterr()
    assert (
        "bad: two_bad.png left out: it has 32 x 32 pixels, but two.png has 64 x 64" in printed.err
    )
    assert json.loads(printed.out.splitlines()[-1])["pictures"] == 2


def test_measures_of_pyiqa_are_empty_columns_or_real(folders, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert run(folders, "--measures", "psnr_y,lpips,fid") == 0
    printed = capsys.readouterr()
    assert "LPIPS is left empty: pyiqa is not installed" in printed.err
    assert "LPIPS ↓" in (folders / "out" / "table.md").read_text()

    class Distance:
        metric_mode = "FR"

        def __call__(self, picture, reference):
            return (picture - reference).abs().mean()

    class OfFolders:
        def __call__(self, one, other):
            import pathlib

            assert (
                len(list(pathlib.Path(one).iterdir()))
                == len(list(pathlib.Path(other).iterdir()))
                == 3
            )
            return 42.0

    def create_metric(name, device):
        if name == "musiq":
            import socket

            socket.create_connection(("192.0.2.1", 80), timeout=5)  # an address that is nobody's
        return OfFolders() if name == "fid" else Distance()

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    assert run(folders, "--measures", "psnr_y,lpips,musiq,fid") == 0
    printed = capsys.readouterr()
    assert "MUSIQ is left empty" in printed.err
    assert "--download" in printed.err
    means = {m["method"]: m["mean"] for m in json.loads(printed.out.splitlines()[-1])["methods"]}
    assert means["good"]["fid"] == 42
    assert 0 < means["good"]["lpips"] < means["bad"]["lpips"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--measures", "psnr"], "--measures must be among psnr_y"),
        (["--against", "nobody"], "--against must be one of bad, good"),
        (["--paper", "Kodak"], "The paper has tables of DIV2K-Val"),
        (["--measures", "psnr_y", "--device", "cpu"], "--device has an effect only on metrics of"),
        (["--measures", "psnr_y", "--download"], "--download has an effect only on metrics of"),
        (["--measures", "psnr_y", "--weights", "/"], "--weights has an effect only on metrics of"),
        (["--measures", "lpips", "--device", "rubbish"], "rubbish"),
        (["--measures", "lpips", "--weights", "absent"], "--weights absent: no such folder"),
    ],
)
def test_wrong_usage(folders, capsys, more, words):
    assert run(folders, *more) == 2
    assert words in capsys.readouterr().err
    assert not (folders / "out").exists()


def test_options_of_pyiqa_are_refused_without_it(folders, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert run(folders, "--download") == 2
    assert "and pyiqa is not installed" in capsys.readouterr().err


def test_equal_pictures_are_infinitely_good_and_a_continued_run_says_the_same(folders, capsys):
    import shutil

    shutil.rmtree(folders / "good")
    shutil.copytree(folders / "HQ", folders / "good")
    assert run(folders, "--measures", "psnr_y,ssim_y,psnr_low") == 0

    def strict(text):
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    document = strict(capsys.readouterr().out.splitlines()[-1])
    means = {line["method"]: line["mean"] for line in document["methods"]}
    assert means["good"]["psnr_y"] == "inf"
    (line,) = [d for d in document["differences"] if d["method"] == "good - bad"]
    assert (line["mean"]["psnr_y"], line["standard_error"].get("psnr_y")) == ("inf", None)
    out = folders / "out"
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    report = strict(first["benchmark.json"])
    assert report["pictures"]["one"]["good"]["psnr_y"] == "inf"
    assert b"good,one,one.png,inf,1.0" in first["per_image.csv"]
    assert "| good | **inf** |" in first["table.md"].decode()
    assert r"good & \textbf{$\infty$}" in first["table.tex"].decode()
    assert '<td class="best">inf</td>' in first["index.html"].decode()
    assert run(folders, "--measures", "psnr_y,ssim_y,psnr_low") == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_the_input_competes_with_no_result(folders):
    import shutil

    shutil.rmtree(folders / "LQ")
    shutil.copytree(folders / "HQ", folders / "LQ")
    assert run(folders, "--measures", "psnr_y") == 0
    lines = (folders / "out" / "table.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| LQ")]
    assert "*" not in line
    assert any(line.startswith("| good | **") for line in lines)


def test_pictures_too_wide_for_webp_are_reduced_in_the_page(tmp_path):
    for name in ("HQ", "wide"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16500, 24), (9, 120, 60)).save(tmp_path / name / "a.png")
    paths = ["--reference", str(tmp_path / "HQ"), "-o", str(tmp_path / "out")]
    assert main(["benchmark", str(tmp_path / "wide"), *paths, "--measures", "psnr_y"]) == 0
    assert (tmp_path / "out" / "index.html").read_text().count("data:image/webp;base64,") == 2


def test_methods_need_names_of_their_own(folders, capsys):
    assert run(folders, methods=("bad", "bad")) == 2
    assert "needs a unique name" in capsys.readouterr().err
