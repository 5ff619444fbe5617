"""What nodes and the gateway say to each other: all that the two sides share."""
