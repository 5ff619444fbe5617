"""The REST interface: a view parses, makes one call of `scheduling.enact`, shows the outcome."""
