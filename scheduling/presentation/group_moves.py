"""What several portfolios would do on each node, in sentences of the reader's language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.translation import get_language, ngettext, pgettext
from django.utils.translation import gettext as _

from scheduling.decide.planner.group_targets import GroupTarget
from scheduling.decide.reasons import render
from scheduling.decide.types import Reason
from scheduling.presentation.formatting import joined

#: Portfolios named for one reason; the others are counted.
MAX_NAMED = 3
#: Stands for "wherever the balancer wants" among the names of nodes; no node has this name.
ANY = "*"


@dataclass(frozen=True, slots=True)
class GroupTargetLines:
    """What an operator can choose, a node or the balancer, and what the portfolios would do."""

    node: str  #: ANY if the balancer chooses
    can: int  #: how many of the portfolios can go
    of: int  #: how many portfolios are to go
    verdict: str  #: `can` of `of`, as a sentence
    reasons: Sequence[str]  #: why the others cannot
    risks: Sequence[str]
    where: str  #: if the balancer chooses: how many would go to each node
    load_before: float
    load_after: float
    capacity: float


def group_target_lines(answers: Iterable[GroupTarget], of: int) -> list[GroupTargetLines]:
    """Return the answer of each target in sentences. `of`: how many portfolios are to go."""
    return [_answer_lines(answer, of) for answer in answers]


def _answer_lines(answer: GroupTarget, of: int) -> GroupTargetLines:
    can = len(answer.moves)
    return GroupTargetLines(
        node=answer.node or ANY,
        can=can,
        of=of,
        verdict=_verdict(can, of),
        reasons=_by_sentence((each.portfolio, each.reason) for each in answer.refused),
        risks=_by_sentence(answer.risks),
        where=_destinations(answer) if answer.node is None else "",
        load_before=answer.load_before,
        load_after=answer.load_after,
        capacity=answer.capacity,
    )


def _verdict(can: int, of: int) -> str:
    """Return the sentence for `can` of `of` portfolios, without a full stop."""
    if can == of:
        return ngettext("it can go", "all %(of)s can go", of) % {"of": of}
    if not can:
        return ngettext("it cannot go", "none of %(of)s can go", of) % {"of": of}
    return _("%(can)s of %(of)s can go") % {"can": can, "of": of}


def _destinations(answer: GroupTarget) -> str:
    """Return how many portfolios would go to each node: `2 to node-1, 1 to node-2`."""
    counts: dict[str, int] = {}
    for _name, node in answer.moves:
        counts[node] = counts.get(node, 0) + 1
    return joined(
        _("%(number)s to %(node)s") % {"number": number, "node": node}
        for node, number in sorted(counts.items())
    )


def _by_sentence(reasons: Iterable[tuple[str, Reason]]) -> list[str]:
    """Return each sentence once, after the names of its portfolios: `a, b: the node is full`."""
    language = get_language()
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(render(reason, language), []).append(name)
    return [
        _("%(names)s: %(sentence)s") % {"names": _list_names(found), "sentence": sentence}
        for sentence, found in names.items()
    ]


def _list_names(names: Sequence[str]) -> str:
    """Join the first MAX_NAMED names, and count the others."""
    more = len(names) - MAX_NAMED
    listed = pgettext("in a list", ", ").join(names[:MAX_NAMED])
    if more <= 0:
        return listed
    return _("%(names)s and %(more)s more") % {"names": listed, "more": more}
