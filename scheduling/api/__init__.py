"""The REST interface: a view parses a request, calls one operation, and shows the outcome."""
