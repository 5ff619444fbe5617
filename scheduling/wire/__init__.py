"""What nodes and the gateway say to each other. Both sides import these and nothing else of each other."""
