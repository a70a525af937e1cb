"""VARestorer Degrade checks the cancel button within a picture, not only between two."""

import sys
from types import SimpleNamespace

import pytest
import torch


class CancelledError(Exception):
    """The host's exception."""


def test_cancelling_within_a_picture(stand_in):
    asked = []

    def interrupted():
        asked.append(1)
        if len(asked) == 4:  # before the picture, and before its first steps
            raise CancelledError

    bar = SimpleNamespace(update_absolute=lambda *_: None)
    sys.modules["comfy.utils"].ProgressBar = lambda total: bar
    stand_in.management.throw_exception_if_processing_interrupted = interrupted
    degrade = stand_in.load("degrading").degrade_images
    image = torch.rand(1, 20, 24, 3)
    with pytest.raises(CancelledError):
        degrade([image], ["official"], [1.0], [0])
    assert len(asked) == 4
