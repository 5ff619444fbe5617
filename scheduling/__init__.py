"""Who runs what: nodes, leases, runs and the handoffs between them."""
