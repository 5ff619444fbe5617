"""Answer what would happen if nodes were lost, drained or added."""
