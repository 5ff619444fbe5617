"""The operator's desk: one board of the whole fleet, and a page for each thing on it."""
