"""A replay process with an unusable answer is ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from portfolios.runtime.messages import Inspect
from portfolios.verify.replay_process import ArtifactCode, ReplayProcessEnded, replay_process

#: Imports of an artifact run with the socket of its process open.
FIND_SOCKET = """
import os, stat, time
for fd in range(3, 64):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            break
    except OSError:
        pass
"""


@pytest.mark.parametrize(
    ("answers", "limit_s", "sentence"),
    [
        ("os.write(fd, bytes.fromhex('ffffffff'))", 60, "answered with 4,294,967,295 B"),
        ("os.write(fd, bytes.fromhex('00000001ff'))", 60, "its answer is not valid"),
        (
            "os.write(fd, bytes.fromhex('00001000'))\n"
            "while True: os.write(fd, b'x'); time.sleep(0.1)",
            2,
            "did not answer within 2 s",
        ),
    ],
)
def test_replay_process_with_a_too_long_invalid_or_endless_answer_is_ended(
    tmp_path: Path, answers: str, limit_s: float, sentence: str
) -> None:
    (tmp_path / "hostile.py").write_text(FIND_SOCKET + answers + "\n")
    points = tmp_path / "hostile-1.dist-info" / "entry_points.txt"
    points.parent.mkdir()
    points.write_text("[ginkgo.strategies]\nhostile = hostile:Hostile\n")
    with (
        pytest.raises(ReplayProcessEnded, match=sentence),
        replay_process(limit_s, code=ArtifactCode("0" * 64, tmp_path)) as ask,
    ):
        ask(Inspect("0" * 64))
