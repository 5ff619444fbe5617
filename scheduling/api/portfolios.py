"""Portfolios: create, read, change, delete, and the actions of operators on them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.models import Checkpoint, DesiredState
from portfolios.runtime.errors import StateUnreadable
from portfolios.text import escape_unprintable
from scheduling import operations
from scheduling.api.base import ApiView, actor_of, read_choice
from scheduling.api.openapi import described, described_list, query
from scheduling.api.pagination import page_of_items
from scheduling.api.request_serializers import (
    AcceptPythonBody,
    MigrateBody,
    NoBody,
    ReasonBody,
    ReloadBody,
    VerificationBody,
    read_body,
)
from scheduling.errors import Refused
from scheduling.models import Phase
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import PortfolioView
from scheduling.observe.stored_state import readable_account, readable_strategy
from scheduling.operations.lookup import existing_portfolio
from scheduling.operations.registry import portfolio_actions
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.documents import handoff_document, portfolio_document, portfolio_view
from scheduling.presentation.fields import StrictSerializer
from scheduling.presentation.portfolio_body import PortfolioBody, PortfolioChanges, read_bodies
from scheduling.presentation.serializers.history import HandoffDocument
from scheduling.presentation.serializers.portfolios import (
    CheckpointDocument,
    DeletedDocument,
    PendingStartDocument,
    PortfolioDocument,
    RevisedDocument,
)
from scheduling.presentation.serializers.verifications import VerificationDocument
from scheduling.verification.latest import newest_verification

#: Query parameter, named as the attribute it is compared with → its values; None: any text.
_FILTERS: dict[str, Sequence[str] | None] = {
    "node": None, "phase": Phase.values, "strategy": None, "desired_state": DesiredState.values,
}  # fmt: skip


class PortfolioList(ApiView):
    """All portfolios that are not deleted."""

    @described_list(
        PortfolioDocument,
        [query(name, enum=choices) for name, choices in _FILTERS.items()],
        "Portfolios, by name",
    )
    def get(self, request: Request) -> Response:
        """Return one page of the portfolios that fit the filters, from one consistent read."""
        portfolios = read_fleet_view().portfolios
        for name, choices in _FILTERS.items():
            wanted = read_choice(request, name, choices)
            if wanted is not None:
                portfolios = [each for each in portfolios if getattr(each, name) == wanted]
        return page_of_items(request, portfolios, attrgetter("name"), PortfolioDocument)

    @described(
        PortfolioDocument,
        status=201,
        body=PortfolioBody,
        performs=portfolio_actions.CREATE,
        of="a portfolio",
    )
    def post(self, request: Request) -> Response:
        """Create one portfolio, or all portfolios of a list or none of them."""
        if isinstance(request.data, list):
            return _create_all(request.data, actor_of(request))
        new = operations.NewPortfolio(**read_body(request, PortfolioBody))
        portfolio = operations.create_portfolio(new, actor=actor_of(request))
        address = reverse("api:portfolio", kwargs={"name": portfolio.name})
        return Response(
            portfolio_document(portfolio.name),
            status=201,
            headers={"Location": request.build_absolute_uri(address)},
        )


def _create_all(given: list[Any], actor: str) -> Response:
    """Create a list of portfolios in one transaction, and return their names.

    Their documents would take a read of the fleet, which costs more than creating them.
    """
    operations.check_length(given)  # before the bodies of a list that is too long are parsed
    new = [operations.NewPortfolio(**one) for one in read_bodies(given, PortfolioBody)]
    made = operations.create_portfolios(new, actor=actor)
    return Response({"created": len(made), "names": [one.name for one in made]}, status=201)


_ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    description="Stands for what PATCH can change; send it back as If-Match.",
    response=True,
)
_IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="ETag of the portfolio that the change was made for; `*`, or none: any.",
)


def _etag(view: PortfolioView) -> dict[str, str]:
    """Return the header ETag, which stands for what PATCH can change of the portfolio."""
    return {"ETag": f'"{operations.EditBase.of(view).token}"'}


def _if_match(request: Request) -> operations.EditBase | None:
    """Return the base of the edit that If-Match names, or None without it or for "*"."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return None
    # A proxy that compresses responses makes ETags weak.
    return operations.EditBase.from_token(given.removeprefix("W/").strip('"'), "If-Match")


class PortfolioDetail(ApiView):
    """One portfolio."""

    @described(
        PortfolioDocument,
        parameters=[_ETAG],
        summary="A portfolio, its desired and its actual state",
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the portfolio. Its ETag stands for what PATCH can change, not for its progress."""
        view = portfolio_view(name)
        return Response(PortfolioDocument(view).data, headers=_etag(view))

    @described(
        RevisedDocument,
        status=202,
        body=PortfolioChanges,
        parameters=[_IF_MATCH, _ETAG],
        performs=portfolio_actions.EDIT,
        of="a portfolio",
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change the portfolio, and return it with the handoff and warnings.

        With If-Match, 412 `changed_meanwhile` names who changed what since that ETag.
        """
        changes = read_body(request, PortfolioChanges)
        base = _if_match(request)
        try:
            portfolio, handoff = operations.revise_portfolio(
                name, changes, actor=actor_of(request), base=base
            )
        except Refused as refused:
            if refused.code == "changed_meanwhile":
                refused.status = 412  # RFC 9110: a condition of the request is false
            raise
        view = portfolio_view(portfolio.name)
        document = {
            "portfolio": PortfolioDocument(view).data,
            "handoff": handoff_document(handoff),
            "warnings": operations.warnings_after_change(portfolio.name, changes),
        }
        return Response(document, status=202, headers=_etag(view))

    @described(
        DeletedDocument,
        status=202,
        body=ReasonBody,
        performs=portfolio_actions.DELETE,
        of="a portfolio",
    )
    def delete(self, request: Request, name: str) -> Response:
        """Delete the portfolio, and return the handoff that releases it."""
        reason = read_body(request, ReasonBody)["reason"]
        handoff = operations.delete_portfolio(name, actor=actor_of(request), reason=reason)
        return Response({"handoff": handoff_document(handoff)}, status=202)


def handoff_action(operation: Operation, body: type[StrictSerializer]) -> type[ApiView]:
    """Return the view that performs an operation on a portfolio and returns its handoff.

    The fields of `body` are the arguments of the operation.
    """

    class HandoffAction(ApiView):
        @described(HandoffDocument, status=202, body=body, performs=operation, of="a portfolio")
        def post(self, request: Request, name: str) -> Response:
            given = read_body(request, body)
            handoff = operation.call(name, actor=actor_of(request), **given)
            return Response(handoff_document(handoff), status=202)

    return HandoffAction


MigratePortfolio = handoff_action(portfolio_actions.MIGRATE, MigrateBody)
ReloadPortfolio = handoff_action(portfolio_actions.RELOAD, ReloadBody)
StopPortfolio = handoff_action(portfolio_actions.STOP, ReasonBody)


class StartPortfolio(ApiView):
    """Start a portfolio."""

    @described(
        PolymorphicProxySerializer(
            component_name="StartedDocument",
            serializers=[HandoffDocument, PendingStartDocument],
            resource_type_field_name=None,
        ),
        status=202,
        body=ReasonBody,
        performs=portfolio_actions.START,
        of="a portfolio",
    )
    def post(self, request: Request, name: str) -> Response:
        """Start the portfolio, and return its handoff.

        If no node has room, return the pending portfolio and a `handoff` of null.
        """
        reason = read_body(request, ReasonBody)["reason"]
        handoff = operations.start(name, actor=actor_of(request), reason=reason)
        if handoff is None:
            document = {"handoff": None, "portfolio": portfolio_document(name)}
            return Response(document, status=202)
        return Response(handoff_document(handoff), status=202)


class UnpinPortfolio(ApiView):
    """Unpin a portfolio."""

    @described(PortfolioDocument, body=NoBody, performs=portfolio_actions.UNPIN, of="a portfolio")
    def post(self, request: Request, name: str) -> Response:
        """End the pin, and return the portfolio."""
        read_body(request, NoBody)
        operations.unpin(name, actor=actor_of(request))
        return Response(portfolio_document(name))


class AcceptPython(ApiView):
    """Accept another minor version of Python for a portfolio."""

    @described(
        PortfolioDocument,
        body=AcceptPythonBody,
        performs=portfolio_actions.ACCEPT_PYTHON,
        of="a portfolio",
    )
    def post(self, request: Request, name: str) -> Response:
        """Let it also run under the Python `version`; "" withdraws that. Return the portfolio."""
        body = read_body(request, AcceptPythonBody)
        operations.accept_python(
            body["version"], [name], actor=actor_of(request), reason=body["reason"]
        )
        return Response(portfolio_document(name))


class PortfolioCheckpoint(ApiView):
    """The newest committed state, decoded."""

    @described(CheckpointDocument, summary="The newest state of a portfolio")
    def get(self, request: Request, name: str) -> Response:
        """Return run and state from one statement, so that seq and state belong together.

        404 `not_found` before the first commit; 409 `unreadable` if the state cannot be decoded.
        """
        row = (
            Checkpoint.objects.select_related("portfolio__run")
            .filter(portfolio__name=name, portfolio__archived_at__isnull=True)
            .first()
        )
        if row is None:
            existing_portfolio(name)
            message = f"The portfolio {name} has no state: it has not committed yet."
            raise Refused("not_found", message, status=404)
        run = row.portfolio.run
        try:
            account, _ = readable_account(bytes(row.state))
            state = readable_strategy(bytes(row.state))
        except StateUnreadable as unreadable:
            why = escape_unprintable(str(unreadable))[:300]
            if run.node_id is None:
                remedy = "No node runs the portfolio, so no commit replaces it: restore a backup."
            else:
                remedy = "The next commit of the portfolio replaces it."
            message = (
                f"The state of {name} at seq {run.state_seq:,} cannot be read: {why}. {remedy}"
            )
            raise Refused("unreadable", message) from None
        document = {
            "portfolio": name,
            "epoch": run.epoch,
            "revision": run.revision,
            "seq": run.last_seq,
            "state_seq": run.state_seq,
            "account": account,
            "state": state,
        }
        return Response(document)


class PortfolioVerification(ApiView):
    """The newest verification of a portfolio."""

    @described(VerificationDocument, summary="The newest verification of a portfolio")
    def get(self, request: Request, name: str) -> Response:
        """Return progress or outcome; state `never` if none was requested."""
        portfolio = existing_portfolio(name)
        return Response(VerificationDocument(newest_verification(portfolio.pk, name)).data)

    @described(
        VerificationDocument,
        status=202,
        body=VerificationBody,
        performs=portfolio_actions.VERIFY,
        of="a portfolio",
    )
    def post(self, request: Request, name: str) -> Response:
        """Request a verification and return it; GET shows its progress."""
        body = read_body(request, VerificationBody)
        requested = operations.verify(name, actor=actor_of(request), full=body["full"])
        view = newest_verification(requested.portfolio_id, name)
        return Response(VerificationDocument(view).data, status=202)
