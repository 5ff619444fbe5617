"""Dashboard for operators: the board of the whole fleet, and a page for each object on it."""
