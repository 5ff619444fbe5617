"""Documents of responses. Field names are public: add fields, never rename or remove them.

Portfolios, nodes and the fleet are views of `scheduling.observe.fleet_view`, from one consistent
read.
"""
