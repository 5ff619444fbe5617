"""The messages between nodes and the gateway, which are all that the two sides share."""
