"""The Django site: settings, environment, entry points and the launcher."""
