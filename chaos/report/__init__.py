"""Report what a chaos run found."""
