"""The house: settings, environment, entry points and the launcher."""
