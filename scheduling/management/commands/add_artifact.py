"""manage.py add_artifact WHEEL… [--lock FILE]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import GinkgoCommand, read_text, unreadable
from scheduling.operations.registry import roll_out_actions
from scheduling.presentation.serializers.artifacts import ArtifactDocument


class Command(GinkgoCommand):
    help = roll_out_actions.ADD_ARTIFACT.help("artifacts")

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("wheels", metavar="WHEEL", nargs="+", help="such as dist/*.whl")
        parser.add_argument(
            "--lock",
            metavar="FILE",
            help="their dependencies with hashes, as uv pip compile --generate-hashes writes them",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Add each wheel; print its hash and strategies."""
        lock = read_text(options["lock"]) if options["lock"] else ""
        documents, lines = [], []
        for path in options["wheels"]:
            added = operations.add_artifact(Path(path).name, _read(path), lock, actor=self.actor)
            document = ArtifactDocument(added.artifact).data
            documents.append(document)
            names = ", ".join(document["strategies"])
            outcome = "was added" if added.is_new else "was there already"
            lines.append(f"{added.artifact} {outcome}: {added.artifact.sha256} ({names})")
        self.show(documents if len(documents) > 1 else documents[0], "\n".join(lines))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
