"""Notices of nodes that completed their work."""

from __future__ import annotations

import logging
from typing import Any

from server import PromptServer  # pyright: ignore[reportMissingImports]

EMPTY_MASK = "The mask is empty: nothing was restored."

_LOG = logging.getLogger(__name__)


def notice(sentence: str) -> dict[str, Any]:
    """Log a sentence, and return the `ui` by which `web/js/notices.js` shows it on the node."""
    _LOG.warning("VARestorer: %s", sentence)
    return {"varestorer_notice": [sentence]}


def remark(sentence: str) -> dict[str, Any]:
    """Log a sentence that needs no attention, and return the `ui` that shows it on the node alone."""
    _LOG.info("VARestorer: %s", sentence)
    return {"varestorer_remark": [sentence]}


def announce(sentence: str) -> None:
    """Log a sentence that a native node cannot return, and let `web/js/notices.js` show it as a message."""
    _LOG.warning("VARestorer: %s", sentence)
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync("varestorer.notice", {"text": sentence}, server.client_id)
