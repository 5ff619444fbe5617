"""Documents, sentences and formats that API, commands, admin and dashboard share."""
