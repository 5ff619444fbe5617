"""Portfolios: create, read, change, delete, and what can be done with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.models import Checkpoint, DesiredState
from portfolios.runtime.state import account_view, decode_state, strategy_view
from scheduling import operations
from scheduling.api.base import ApiView, actor_of, present_portfolio, refuse_unknown_parameters
from scheduling.api.openapi import described, described_list, query
from scheduling.api.pagination import page_of_lines
from scheduling.api.request_serializers import (
    AcceptPythonBody,
    MigrateBody,
    NoBody,
    ReasonBody,
    ReloadBody,
    VerificationBody,
    read_body,
)
from scheduling.errors import Invalid, Refused
from scheduling.models import Phase
from scheduling.observe.fleet_view import read_fleet_view
from scheduling.presentation.documents import handoff_document, portfolio_document
from scheduling.presentation.portfolio_body import PortfolioBody, PortfolioChanges, read_bodies
from scheduling.presentation.serializers import (
    CheckpointDocument,
    DeletedDocument,
    HandoffDocument,
    PortfolioDocument,
    RevisedDocument,
    VerificationDocument,
)
from scheduling.verification.latest import newest_verification

#: Filters of the list, by the attribute of a line they compare with; None: any text will do.
_FILTERS: dict[str, tuple[str, Sequence[str] | None]] = {
    "node": ("node", None),
    "phase": ("phase", Phase.values),
    "strategy": ("strategy", None),
    "desired_state": ("desired_state", DesiredState.values),
}


class PortfolioList(ApiView):
    """All portfolios that were not deleted."""

    @described_list(PortfolioDocument, [query(name) for name in _FILTERS], "Portfolios, by name")
    def get(self, request: Request) -> Response:
        """Answer one page of the one consistent read that the dashboard shows too."""
        refuse_unknown_parameters(request, _FILTERS)
        lines = read_fleet_view().portfolios
        for name, (attribute, choices) in _FILTERS.items():
            wanted = request.query_params.get(name)
            if wanted is None:
                continue
            if choices is not None and wanted not in choices:
                message = f"is none of {', '.join(choices)}"
                raise Invalid([{"field": name, "code": "invalid_choice", "message": message}])
            lines = [line for line in lines if getattr(line, attribute) == wanted]
        page, following, preceding = page_of_lines(request, lines, lambda line: line.name)
        results = PortfolioDocument(page, many=True).data
        return Response({"next": following, "previous": preceding, "results": results})

    @described(PortfolioDocument, status=201, body=PortfolioBody, summary="Create a portfolio")
    def post(self, request: Request) -> Response:
        """Create it, or all of a list or none; the next pass, which is woken, places them."""
        if isinstance(request.data, list):
            return _create_all(request.data, actor_of(request))
        new = operations.NewPortfolio(**read_body(request, PortfolioBody))
        portfolio = operations.create_portfolio(new, actor=actor_of(request))
        where = reverse("api:portfolio", kwargs={"name": portfolio.name})
        return Response(
            portfolio_document(portfolio.name),
            status=201,
            headers={"Location": request.build_absolute_uri(where)},
        )


def _create_all(given: list[Any], actor: str) -> Response:
    """Create a list of portfolios in one transaction. Their documents are at their addresses: to
    read the fleet for each call would cost more than the call."""
    operations.check_length(given)  # before each of a list that is too long is looked into
    new = [operations.NewPortfolio(**one) for one in read_bodies(given, PortfolioBody)]
    made = operations.create_portfolios(new, actor=actor)
    return Response({"created": len(made), "names": [one.name for one in made]}, status=201)


class PortfolioDetail(ApiView):
    """One portfolio."""

    @described(PortfolioDocument, summary="A portfolio, what it should do and what it does")
    def get(self, request: Request, name: str) -> Response:
        """Answer its document."""
        return Response(portfolio_document(name))

    @described(RevisedDocument, status=202, body=PortfolioChanges, summary="Change a portfolio")
    def patch(self, request: Request, name: str) -> Response:
        """Make a revision where needed; a running portfolio reloads by itself."""
        changes = read_body(request, PortfolioChanges)
        portfolio, handoff = operations.revise_portfolio(name, changes, actor=actor_of(request))
        document = {
            "portfolio": portfolio_document(portfolio.name),
            "handoff": handoff_document(handoff),
            "warnings": operations.warnings_after_change(portfolio.name, changes),
        }
        return Response(document, status=202)

    @described(DeletedDocument, status=202, body=ReasonBody, summary="Delete a portfolio")
    def delete(self, request: Request, name: str) -> Response:
        """Release it for certain; its orders and its audit trail stay, its name is freed."""
        reason = read_body(request, ReasonBody)["reason"]
        handoff = operations.delete_portfolio(name, actor=actor_of(request), reason=reason)
        return Response({"handoff": handoff_document(handoff)}, status=202)


class MigratePortfolio(ApiView):
    """Move it to another node."""

    @described(HandoffDocument, status=202, body=MigrateBody, summary="Move a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """Answer the handoff; the portfolio runs on until its target is ready."""
        body = read_body(request, MigrateBody)
        handoff = operations.migrate(
            name, body["target_node"], actor=actor_of(request), reason=body["reason"]
        )
        return Response(handoff_document(handoff), status=202)


class ReloadPortfolio(ApiView):
    """Restart it make-before-break."""

    @described(HandoffDocument, status=202, body=ReloadBody, summary="Reload a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """Answer the handoff."""
        body = read_body(request, ReloadBody)
        handoff = operations.reload(
            name, actor=actor_of(request), reason=body["reason"], revision=body["revision"]
        )
        return Response(handoff_document(handoff), status=202)


class StartPortfolio(ApiView):
    """Want it running."""

    @described(HandoffDocument, status=202, body=ReasonBody, summary="Start a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """Answer the handoff; where no node was chosen yet, `handoff` is null in its place and
        the portfolio, now pending, stands beside it."""
        reason = read_body(request, ReasonBody)["reason"]
        handoff = operations.start(name, actor=actor_of(request), reason=reason)
        if handoff is None:
            document = {"handoff": None, "portfolio": portfolio_document(name)}
            return Response(document, status=202)
        return Response(handoff_document(handoff), status=202)


class StopPortfolio(ApiView):
    """Drain it and own it nowhere."""

    @described(HandoffDocument, status=202, body=ReasonBody, summary="Stop a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """Answer the handoff."""
        reason = read_body(request, ReasonBody)["reason"]
        handoff = operations.stop(name, actor=actor_of(request), reason=reason)
        return Response(handoff_document(handoff), status=202)


class UnpinPortfolio(ApiView):
    """Let the balancer move it again."""

    @described(PortfolioDocument, body=NoBody, summary="Unpin a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """Answer the portfolio."""
        read_body(request, NoBody)
        operations.unpin(name, actor=actor_of(request))
        return Response(portfolio_document(name))


class AcceptPython(ApiView):
    """Let it go on under another minor version of Python than the one it last ran under."""

    @described(PortfolioDocument, body=AcceptPythonBody, summary="Accept another Python version")
    def post(self, request: Request, name: str) -> Response:
        """Answer the portfolio."""
        body = read_body(request, AcceptPythonBody)
        operations.accept_python(
            body["version"], [name], actor=actor_of(request), reason=body["reason"]
        )
        return Response(portfolio_document(name))


class PortfolioCheckpoint(ApiView):
    """The newest committed state, decoded."""

    @described(CheckpointDocument, summary="The newest state of a portfolio")
    def get(self, request: Request, name: str) -> Response:
        """Answer run and state as of one statement, so that seq and state belong together."""
        row = (
            Checkpoint.objects.select_related("portfolio__run")
            .filter(portfolio__name=name, portfolio__archived_at__isnull=True)
            .first()
        )
        if row is None:
            present_portfolio(name)
            said = f"The portfolio {name} has committed nothing yet, so it has no state."
            raise Refused("not_found", said, status=404)
        run = row.portfolio.run
        state = decode_state(bytes(row.state))
        document = {
            "portfolio": name,
            "epoch": run.epoch,
            "revision": run.revision,
            "seq": run.last_seq,
            "state_seq": run.state_seq,
            "account": account_view(state),
            "state": strategy_view(state),
        }
        return Response(document)


class PortfolioVerification(ApiView):
    """Whether what it left behind equals an uninterrupted run."""

    @described(VerificationDocument, summary="The newest verification of a portfolio")
    def get(self, request: Request, name: str) -> Response:
        """Answer how far it is, or what came of it; state `never` where none was asked for."""
        portfolio = present_portfolio(name)
        return Response(VerificationDocument(newest_verification(portfolio.pk, name)).data)

    @described(
        VerificationDocument, status=202, body=VerificationBody, summary="Verify a portfolio"
    )
    def post(self, request: Request, name: str) -> Response:
        """Ask for one; the portfolio runs on, and GET shows the progress."""
        body = read_body(request, VerificationBody)
        asked = operations.verify(name, actor=actor_of(request), full=body["full"])
        line = newest_verification(asked.portfolio_id, name)
        return Response(VerificationDocument(line).data, status=202)
