"""What a replayed strategy prints: whole lines with their seqs, none lost within the bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from portfolios.verify import printed
from portfolios.verify.printed import LOADING, PrintedLine, PrintedOutput, PrintStream


class At:
    """The event that is handled."""

    seq = LOADING

    def __call__(self) -> int:
        return self.seq


@pytest.fixture
def at() -> At:
    return At()


@pytest.fixture
def output() -> PrintedOutput:
    return PrintedOutput()


@pytest.fixture
def stream(output: PrintedOutput, at: At) -> Iterator[PrintStream]:
    """Return the process's end, which stays open while the other one reads."""
    end = os.dup(output.write_end)
    output.begin_reading()
    yield PrintStream(end, at)
    with suppress(OSError):  # a test may have closed it
        os.close(end)


def everything(output: PrintedOutput, stream: PrintStream) -> list[PrintedLine]:
    stream.flush()
    os.close(stream._fd)
    return output.take_rest()


def test_each_printed_line_has_the_seq_of_the_event_at_which_it_began(
    output: PrintedOutput, stream: PrintStream, at: At
) -> None:
    stream.write("hello\n")
    at.seq = 7
    stream.write("a\tb")
    stream.write("c\n\nunended")
    at.seq = 8
    stream.write("next\n")
    assert everything(output, stream) == [
        PrintedLine(LOADING, "hello"),
        PrintedLine(7, "a\tbc"),
        PrintedLine(7, ""),
        PrintedLine(7, "unended"),
        PrintedLine(8, "next"),
    ]


def test_printed_lines_beyond_the_size_of_a_pipe_are_not_lost(
    output: PrintedOutput, stream: PrintStream, at: At
) -> None:
    at.seq = 1
    for number in range(20_000):
        stream.write(f"line {number} {'x' * 50}\n")
    lines = everything(output, stream)
    assert [line.text.split()[1] for line in lines] == [str(n) for n in range(20_000)]


def test_printed_line_over_the_limit_is_divided(output: PrintedOutput, stream: PrintStream) -> None:
    stream.write("x" * (printed.MAX_LINE * 2 + 5))
    assert [len(line.text) for line in everything(output, stream)] == [4_000, 4_000, 5]


def test_printed_lines_beyond_the_bound_are_counted_and_dropped(
    output: PrintedOutput, stream: PrintStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printed, "MAX_WAITING_BYTES", 25)
    for _ in range(5):
        stream.write("0123456\n")  # 10 bytes with its seq
    lines = everything(output, stream)
    texts = [line.text for line in lines]
    assert texts == ["0123456", "0123456", "(3 lines are left out: too much at once)"]


def test_bytes_written_directly_to_the_output_are_shown_as_lines(
    output: PrintedOutput, stream: PrintStream
) -> None:
    os.write(stream._fd, b"no seq \xff\nx\ty\n")
    lines = everything(output, stream)
    assert lines == [PrintedLine(LOADING, "no seq \ufffd"), PrintedLine(LOADING, "x\ty")]
