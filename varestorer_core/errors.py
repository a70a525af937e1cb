"""The errors that users meet. Each message says what was expected, what was got and what to do."""


class VARestorerError(Exception):
    """Base class of every error that this package raises on purpose."""


class CheckpointError(VARestorerError, ValueError):
    """A file is not the checkpoint it was taken for, or is damaged."""


class ImageError(VARestorerError, ValueError):
    """A picture cannot be read, or has a shape or values that cannot be restored."""


class SettingError(VARestorerError, ValueError):
    """A setting (upscale, overlap, colour match, ...) is outside the range that it can have."""
