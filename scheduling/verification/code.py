"""The code of the artifacts that a verification replays."""

from __future__ import annotations

from collections.abc import Callable

from portfolios.verify.replay_process import ArtifactCode
from portfolios.verify.types import CannotVerify
from scheduling.artifact_code import CodeUnavailable, artifact_code


def code_for(portfolio: str) -> Callable[[str], ArtifactCode]:
    """Return a function that loads an artifact's code by its sha256, or raises CannotVerify."""

    def find(sha256: str) -> ArtifactCode:
        try:
            return artifact_code(sha256)
        except CodeUnavailable as error:
            raise CannotVerify(f"{portfolio} cannot be verified: {error}.") from None

    return find
