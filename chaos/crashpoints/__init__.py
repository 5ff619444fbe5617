"""Kill control-plane processes at the failpoints of every handoff transition."""
