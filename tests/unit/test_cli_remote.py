"""Pictures in object stores: paths of URIs, and pyarrow's real S3 client against a local server (moto)."""

import importlib
import importlib.util
import io
import json
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from varestorer_core.cli import UsageError
from varestorer_core.cli.finding import Skipped
from varestorer_core.cli.jobs import check_writable, plan_jobs
from varestorer_core.cli.main import main
from varestorer_core.cli.remote import RemotePath, Staging, is_uri, path_of
from varestorer_core.errors import ImageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not on Windows")


def has(*names):
    return all(importlib.util.find_spec(name) is not None for name in names)


needs_server = pytest.mark.skipif(
    not has("pyarrow", "moto", "flask"),
    reason="needs pip install -e '.[cluster]' 'moto[s3,server]'",
)


@pytest.fixture
def store(monkeypatch):
    """Return a client of an S3 server of this machine, with an empty bucket `photos`."""
    moto = importlib.import_module("moto.server")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("NO_PROXY", "*"),
    ):
        monkeypatch.setenv(name, value)
    # All servers of a process share what is stored.
    urllib.request.urlopen(f"{endpoint}/moto-api/reset", data=b"").close()
    client = importlib.import_module("boto3").client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="photos")
    yield client
    server.stop()


def put(store, key, size=(12, 8), colour=(200, 90, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    store.put_object(Bucket="photos", Key=key, Body=file.getvalue())
    return file.getvalue()


def test_uris_have_the_arithmetic_of_paths():
    place = path_of("s3://bucket/a b/c.JPG")
    assert isinstance(place, RemotePath)
    assert str(place) == "s3://bucket/a b/c.JPG"
    assert (place.name, place.stem, place.suffix) == ("c.JPG", "c", ".JPG")
    assert str(place.parent / "d" / "e.png") == "s3://bucket/a b/d/e.png"
    assert place.absolute() == place.resolve() == place


@pytest.mark.parametrize("text", ["photo.png", "/data/a.png", "C:/a.png", "C://a.png", "a:b.png"])
def test_other_names_are_local(text):
    assert not is_uri(text)
    assert not isinstance(path_of(text), RemotePath)


def test_a_file_uri_is_a_local_path():
    assert path_of("file:///data/a%20b.png") == Path("/data/a b.png")


@pytest.mark.parametrize("places", [("s3://bucket/a", "out"), (".", "gs://bucket/out")])
def test_without_a_cluster_one_sentence_says_so(tmp_path, monkeypatch, capsys, places):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    assert main(["restore", places[0], "-o", places[1]]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "with --cluster" in said[0]


@needs_server
def test_a_prefix_is_listed_like_a_folder(store):
    for key in ("in/b.png", "in/sub/c.jpg", "in/notes.txt", "in/.hidden.png", "in/.trash/d.png"):
        put(store, key)
    jobs, skipped = plan_jobs(["s3://photos/in"], "s3://photos/out", remote=True)
    assert [(str(job.source), str(job.target)) for job in jobs] == [
        ("s3://photos/in/b.png", "s3://photos/out/b.png")
    ]
    jobs, skipped = plan_jobs(["s3://photos/in"], "s3://photos/out", recursive=True, remote=True)
    assert [str(job.target) for job in jobs] == [
        "s3://photos/out/b.png", "s3://photos/out/sub/c.png",
    ]  # fmt: skip
    assert skipped == Skipped(files=2)
    (job,), _ = plan_jobs(["s3://photos/in/b.png"], "result.png", remote=True)
    assert (str(job.source), str(job.target)) == ("s3://photos/in/b.png", "result.png")


@needs_server
def test_what_is_not_there_is_said_before_any_work(store):
    with pytest.raises(UsageError, match=r"s3://photos/none: no such object or prefix"):
        plan_jobs(["s3://photos/none"], "out", remote=True)
    with pytest.raises(UsageError, match="there is no such bucket"):
        check_writable(path_of("s3://nobody/out"))
    check_writable(path_of("s3://photos/out/deep"))


@needs_server
def test_a_picture_goes_through_a_temporary_folder(store):
    content = put(store, "in/a.png")
    with Staging() as staging:
        source = staging.local("s3://photos/in/a.png", "source")
        target = staging.local("s3://photos/out/a.png", "result")
        staging.fetch(source)
        assert source.read_bytes() == content
        staging.fetch(target)
        assert not target.exists()  # there is none yet
        target.write_bytes(b"restored")
        staging.store(target)
        assert staging.named(f"{source} is bad") == "s3://photos/in/a.png is bad"
        assert staging.local("/data/a.png", "source") == Path("/data/a.png")
    assert not source.parent.parent.exists()
    assert store.get_object(Bucket="photos", Key="out/a.png")["Body"].read() == b"restored"


@needs_server
def test_a_store_that_refuses_costs_its_picture(store):
    with Staging() as staging:
        target = staging.local("s3://nobody/out/a.png", "result")
        target.write_bytes(b"restored")
        with pytest.raises(ImageError, match=r"s3://nobody/out/a.png was not written"):
            staging.store(target)


@needs_server
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not has("ray"), reason="needs Ray: pip install -e '.[cluster]'")
def test_a_bucket_is_degraded_on_a_real_ray(store, tmp_path, capsys):
    for number in range(6):
        put(store, f"in/{number}.png", colour=(40 * number, 90, 30))
    store.put_object(Bucket="photos", Key="in/bad.png", Body=b"no picture")
    command = ["degrade", "s3://photos/in", "-o", "s3://photos/lq", "--preset", "mild"]
    cluster = ["--cluster", "auto", "--workers", "1", "--skip-existing"]
    assert main([*command, *cluster]) == 2
    assert "--manifest FILE" in capsys.readouterr().err
    cluster += ["--manifest", str(tmp_path / "m.jsonl")]
    assert main([*command, *cluster]) == 1
    said = capsys.readouterr()
    assert "6 degraded, 1 failed by 1 actor" in said.out
    assert "s3://photos/in/bad.png" in said.err
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert {r["result"] for r in records if not r["error"]} == {
        f"s3://photos/lq/{number}.png" for number in range(6)
    }
    # The bytes are those of a run on files.
    (tmp_path / "in").mkdir()
    for name in (*(f"{n}.png" for n in range(6)), "bad.png"):
        body = store.get_object(Bucket="photos", Key=f"in/{name}")["Body"].read()
        (tmp_path / "in" / name).write_bytes(body)
    local = ["degrade", str(tmp_path / "in"), "-o", str(tmp_path / "lq"), "--preset", "mild"]
    assert main(local) == 1
    for number in range(6):
        body = store.get_object(Bucket="photos", Key=f"lq/{number}.png")["Body"].read()
        assert body == (tmp_path / "lq" / f"{number}.png").read_bytes()
    store.delete_object(Bucket="photos", Key="lq/3.png")
    capsys.readouterr()
    assert main([*command, *cluster]) == 1
    assert "1 degraded, 1 failed, 5 already done" in capsys.readouterr().out
