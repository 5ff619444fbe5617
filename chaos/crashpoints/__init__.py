"""Kill a control-plane process at every point of every transition."""
