"""`varestorer inspect`: identify a checkpoint and list its problems."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from ..wording import LONGEST, shown

if TYPE_CHECKING:
    from ..checkpoint.examine import FileReport

_PROBLEM = 1000  # characters: our sentences may be longer than texts of files
_SHOWN = ("format", "varestorer.config", "varestorer.kind", "varestorer.v_bias")
"""Metadata that the report shows in other words."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "inspect",
        help="identify a checkpoint: kind, configuration, sizes and problems",
        description="Identify a checkpoint by its keys and shapes, and check all of its values. "
        "The exit status is 1 if it has problems.",
    )
    parser.add_argument("file", help="checkpoint, or folder of flan-t5-xl")
    parser.add_argument(
        "--verify",
        action="store_true",
        help=(
            "also verify the SHA-256 of the tensors, which files written by this program "
            "contain; a file without one is named"
        ),
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; return 1 if the checkpoint has problems."""
    from ..checkpoint.examine import examine

    report = examine(args.file, verify=args.verify)
    if args.json:
        print(json.dumps(as_dict(report), indent=2))
    else:
        print(as_text(report))
    return 1 if report.info.problems else 0


def as_dict(report: FileReport) -> dict[str, Any]:
    """Return the report as plain values."""
    from ..config import to_dict

    info = report.info
    return {
        "file": str(report.path),
        "size_bytes": report.size,
        "kind": info.kind,
        "description": info.description,
        "layout": info.layout,
        "config": to_dict(info.config) if info.config else None,
        "details": info.details,
        "tensors": info.counts.tensors,
        "parameters": info.counts.parameters,
        "lora_parameters": info.counts.lora,
        "dtypes": info.dtypes,
        "metadata": report.metadata,
        "problems": list(info.problems),
    }


def as_text(report: FileReport) -> str:
    """Return the report as text."""
    facts = as_dict(report)
    parameters = f"{facts['parameters']:,}"
    if facts["lora_parameters"]:
        share = facts["lora_parameters"] / facts["parameters"]
        parameters += f", of which {facts['lora_parameters']:,} in adapters ({share:.2%})"
    rows = [
        ("file", f"{facts['file']} ({_size(facts['size_bytes'])})"),
        ("is", facts["description"]),
        ("layout", facts["layout"]),
        ("parameters", f"{parameters}, in {facts['tensors']:,} tensors"),
        ("stored as", ", ".join(facts["dtypes"])),
        *((key, str(value)) for key, value in facts["details"].items()),
        *((f"config.{key}", str(value)) for key, value in (facts["config"] or {}).items()),
        *((key, value) for key, value in facts["metadata"].items() if value and key not in _SHOWN),
        *(("problem", problem) for problem in facts["problems"]),
        *([] if facts["problems"] else [("problems", "none found")]),
    ]
    width = max(len(shown(key)) for key, _ in rows)
    # Metadata and names are untrusted: control sequences are escaped.
    return "\n".join(
        f"{shown(key):<{width}}  {shown(value, _PROBLEM if key == 'problem' else LONGEST)}"
        for key, value in rows
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2f} MB"
