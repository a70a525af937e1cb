"""Errors for users. Each message states what was expected, what was found and what to do."""


class VARestorerError(Exception):
    """Base class of every error that this package raises on purpose."""


class CheckpointError(VARestorerError, ValueError):
    """A file is not the expected checkpoint, or is damaged."""


class ImageError(VARestorerError, ValueError):
    """A picture cannot be read, or has a shape or values that cannot be restored."""


class SettingError(VARestorerError, ValueError):
    """A setting (upscale, overlap, colour match, ...) is out of range."""
