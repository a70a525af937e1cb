import pytest

from varestorer_core.schedule import PIXEL_CLASSES, RATIOS, classes_by_side, get_schedule


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("pixel_class", PIXEL_CLASSES)
def test_grids_grow_and_spans_tile_the_sequence(ratio, pixel_class):
    schedule = get_schedule(ratio, pixel_class)
    assert schedule.num_scales == PIXEL_CLASSES[pixel_class]
    assert len(schedule.full_grids) == 13
    for (h0, w0), (h1, w1) in zip(schedule.grids, schedule.grids[1:], strict=False):
        assert h0 <= h1
        assert w0 <= w1
    stops = [stop for _, stop in schedule.spans]
    assert [start for start, _ in schedule.spans] == [0, *stops[:-1]]
    assert stops[-1] == schedule.num_tokens


def test_release_sizes():
    schedule = get_schedule()
    assert (schedule.num_tokens, schedule.num_tokens_long) == (2521, 3545)
    assert schedule.pixel_size(16) == (512, 512)


def test_classes_by_side():
    assert classes_by_side(16) == {256: "0.06M", 512: "0.25M", 768: "0.60M", 1024: "1M"}


@pytest.mark.parametrize(("ratio", "pixel_class"), [(1.1, "0.25M"), (1.0, "2M")])
def test_unknown_schedules_are_refused_with_the_choices(ratio, pixel_class):
    with pytest.raises(ValueError, match="must be one of"):
        get_schedule(ratio, pixel_class)
