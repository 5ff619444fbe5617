"""What API, commands, admin and dashboard show, worded once."""
