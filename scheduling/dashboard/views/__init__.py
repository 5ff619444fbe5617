"""Views of the dashboard. An action parses its form, makes one call and shows the outcome."""
