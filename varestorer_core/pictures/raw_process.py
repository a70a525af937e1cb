"""Develops one camera raw file; `raw` runs this file as a separate program.

Prints the size, waits for a line that permits continuing, then writes (H, W, 3) uint16 as bytes. LibRaw's messages on
stderr are for the caller. Nothing of this package is imported, so that it starts quickly.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Develop the file on the command line."""
    # The folder of this file, which Python puts first, has modules with the same names as others.
    del sys.path[0]
    import rawpy  # pyright: ignore[reportMissingImports]

    out = sys.stdout.buffer
    try:
        with rawpy.imread(sys.argv[1]) as file:
            _tell({"width": file.sizes.width, "height": file.sizes.height})
            if not sys.stdin.readline():
                return 0
            color = file.postprocess(use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92))
    except (rawpy.LibRawError, MemoryError) as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("ascii", "replace") if isinstance(reason, bytes) else str(reason)
        _tell({"error": "memory" if isinstance(error, MemoryError) else reason})
        return 0
    _tell({"shape": color.shape})
    out.write(color.tobytes() if not color.flags.c_contiguous else color.data)
    return 0


def _tell(values: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
