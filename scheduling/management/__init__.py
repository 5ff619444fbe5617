"""The command line: commands of manage.py, and what they share."""
