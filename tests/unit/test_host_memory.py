"""Results that do not fit into memory are rejected before any work, with their need and what to do."""

import pytest
import torch

from varestorer_core import host_memory
from varestorer_core.errors import ImageError
from varestorer_core.host_memory import available_bytes, check_results
from varestorer_core.settings import RestoreSettings


@pytest.fixture
def free(monkeypatch):
    return lambda value: monkeypatch.setattr(host_memory, "available_bytes", lambda: value)


def test_what_fits_passes(free):
    free(10 * 10**9)
    check_results([(10_000, 10_000)])
    check_results([])


def test_the_sentence_names_size_need_and_way_out(free):
    free(2 * 10**9)
    with pytest.raises(
        ImageError, match=r"10000 x 8000 pixels.*3\.7 GB.*2\.0 GB are free.*smaller upscale"
    ):
        check_results([(8000, 10_000)])


def test_a_batch_adds_up_where_it_is_together(free):
    free(2 * 10**9)
    sizes = [(4000, 4000)] * 5
    check_results(sizes, together=False)
    with pytest.raises(ImageError, match="5 pictures of up to 4000 x 4000"):
        check_results(sizes)


def test_small_results_are_always_tried(free):
    free(0)
    check_results([(1000, 1000)])


def test_an_absurd_size_is_refused_whatever_the_memory(free):
    free(None)
    check_results([(20_000, 20_000)])
    with pytest.raises(ImageError, match=r"40000 x 20000 pixels; the limit is 537"):
        check_results([(20_000, 40_000)])


def test_the_pipeline_refuses_before_it_resizes(bundled, free):
    free(1)
    with pytest.raises(ImageError, match="GB are free"):
        bundled.restore(torch.rand(3, 1000, 1000), RestoreSettings(upscale=4.0))


def test_the_pipeline_refuses_before_it_resizes_a_mask(bundled, free, monkeypatch):
    free(1)
    monkeypatch.setattr("varestorer_core.restorer.output_mask", lambda *_: pytest.fail("resized"))
    with pytest.raises(ImageError, match="GB are free"):
        bundled.restore(torch.rand(3, 1000, 1000), upscale=4.0, masks=torch.ones(10, 10))


def test_this_machine_has_memory():
    free = available_bytes()
    assert free is None or free > 0


def test_the_limit_of_a_container_counts(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert host_memory._of_container(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory._of_container(tmp_path) is None
