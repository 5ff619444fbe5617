"""Examples of bodies and answers in the OpenAPI description, by the name of their schema.

A test checks each against its schema, and sends the examples of bodies.
"""

from __future__ import annotations

from typing import Any

BODIES: dict[str, dict[str, Any]] = {
    "AcceptPythonBody": {"version": "3.13", "reason": "verified under both"},
    "AlertChannelBody": {"name": "on-call", "address": "mailto://user:password@example.org"},
    "AppendBody": {
        "rows": [
            {
                "symbol": "IBM", "time": "2026-01-30T14:31:00Z", "open": "183.20", "high": "183.55",
                "low": "183.11", "close": "183.42", "volume": 5400,
            }
        ],
        "source": "exchange-a",
        "number": 1,
    },
    "DrainBody": {"reason": "kernel update", "make_room": False, "until_return": True},
    "FeedBody": {
        "name": "crypto",
        "instruments": {"BTCUSDT": {"tick": "0.01", "lot": "0.00001", "scale": 2}},
        "silent_after_s": 60,
    },
    "FreezeBody": {"reason": "exchange maintenance", "failover": False},
    "HaltBody": {"reason": "wrong prices from the exchange", "expect_running": 9},
    "InstrumentsBody": {"instruments": {"ETHUSDT": {"tick": "0.01", "lot": "0.0001", "scale": 2}}},
    "MigrateBody": {"target_node": "node-2", "reason": "closer to the exchange"},
    "MigrateSeveralBody": {"portfolios": ["ibm-sma", "ge-sma"], "target_node": "node-2"},
    "NodeTokenBody": {"node": "node-4", "name": "rack 7", "days": 90},
    "PatchedLabelsBody": {"labels": {"zone": "hk", "gpu": "yes"}, "reason": "new card"},
    "PatchedPortfolioChanges": {"config": {"fast": 5, "slow": 20, "quantity": "200"}},
    "PolicyBody": {"even_by": "cpu", "reason": "weights are guesses"},
    "PortfolioBody": {
        "name": "ibm-sma", "strategy": "sma_cross", "symbols": ["IBM"], "weight": 1, "priority": 0,
        "config": {"fast": 5, "slow": 20, "quantity": "100"}, "limits": {"largest_order": "500"},
        "starting_cash": "100000.00", "note": "first try",
    },
    "ReasonBody": {"reason": "asked for by research"},
    "ReloadBody": {"revision": 2, "reason": "the new revision loses money"},
    "RollOutBody": {"artifact": "3f2a9c0b1d4e", "at_a_time": 2, "reason": "momentum-demo 1.1"},
    "ScheduleMigrateBody": {"portfolio": "ibm-sma", "target_node": "node-2"},
    "SecretBody": {"name": "mail-password", "value": "correct horse battery staple"},
    "UndoHaltBody": {"halt": 3, "reason": "prices are right again"},
    "VerificationBody": {"full": True},
}  # fmt: skip

_AT = "2026-01-30T14:31:07.218000Z"

HANDOFF: dict[str, Any] = {
    "id": 41, "portfolio": "ibm-sma", "kind": "migrate", "reason": "closer to the exchange",
    "why": None, "requested_by": "olive", "source_node": "node-1", "target_node": "node-2",
    "from_epoch": 4, "to_epoch": 5, "from_revision": 2, "to_revision": 2, "released_seq": 120417,
    "state": "done", "error": "", "pause_ms": 41.7, "catchup_ms": 12.0, "requested_at": _AT,
    "prepared_at": _AT, "released_at": _AT, "granted_at": _AT, "activated_at": _AT,
    "finished_at": _AT, "deadline_at": None,
}  # fmt: skip

_RUN = {
    "node": "node-2", "epoch": 5, "phase": "running", "revision": 2, "last_seq": 120930,
    "python": "3.12", "accept_python": "", "lag_events": 3, "stalled": False, "stalled_s": 0.0,
    "pid": 4711, "attempts": 0, "orders_refused": 0, "orders_suppressed": 0, "unplaced_orders": 0,
    "behind_since": None, "reason": "", "why": None, "since": _AT,
}  # fmt: skip

DOCUMENTS: dict[str, dict[str, Any]] = {
    "HandoffDocument": HANDOFF,
    "PortfolioDocument": {
        "name": "ibm-sma", "strategy": "sma_cross", "strategy_version": 1, "artifact": None,
        "config": {"fast": 5, "slow": 20, "quantity": "100"}, "symbols": ["IBM"], "feed": "bars",
        "weight": 1, "priority": 0, "selector": {}, "spread_group": "", "spread_hard": False,
        "limits": {"largest_order": "500"}, "catch_up": "state_only", "desired_state": "running",
        "pinned_node": None, "revision": 2, "revision_status": "good", "good_revision": 2,
        "first_seq": 1, "starting_cash": "100000.0000", "run": _RUN,
        "account": {
            "cash": "81658.0000", "equity": "100012.5000", "pnl": "12.5000",
            "positions": [
                {
                    "symbol": "IBM", "quantity": "100.0000", "average_price": "183.4200",
                    "price": "183.5450", "unrealised": "12.5000",
                }
            ],
        },
        "handoff": None,
    },
    "NodeDocument": {
        "name": "node-2", "status": "alive", "schedulable": True, "cordoned": False,
        "draining": False, "drain_reason": "", "drain_actor": "", "leaving": False, "capacity": 10,
        "labels": {"zone": "hk"}, "portfolios": ["ibm-sma"], "load": 1.0, "held": 0.0,
        "metrics": {}, "last_heartbeat_at": _AT, "lease_expires_at": _AT, "lease_left_s": 27.3,
        "status_since": _AT, "reason": "", "why": None, "incarnation": "a3f0c9e1d2b4",
        "host": "hk-02", "pid": 902, "version": "0.1.0", "python": "3.12",
    },
    "AlertDocument": {
        "id": 12, "kind": "node_lost", "portfolio": None, "node": "node-3",
        "reason": "its connection closed 14:31:07 and it did not come back in 3 s", "why": None,
        "times": 1, "opened_at": _AT, "closed_at": None, "acknowledged_at": None,
        "acknowledged_by": "", "acknowledged_note": "",
    },
    "EventDocument": {
        "id": 9081, "at": _AT, "kind": "handoff_requested", "portfolio": "ibm-sma", "node": None,
        "actor": "olive", "interface": "api", "address": "10.0.0.7",
        "reason": "closer to the exchange", "data": {"handoff": 41, "kind": "migrate"},
    },
}  # fmt: skip


def add_examples(schemas: dict[str, Any]) -> None:
    """Add the examples to their schemas."""
    for name, example in {**BODIES, **DOCUMENTS}.items():
        schemas[name]["example"] = example
