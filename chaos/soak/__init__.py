"""bin/soak: days of trading compressed into minutes, and what grew meanwhile."""
