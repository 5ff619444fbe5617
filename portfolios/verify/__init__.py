"""Is what a fleet left behind what one uninterrupted process would have left?

Replay the log and compare values. The caller passes the owners as `TenureSegment`s; nothing here
knows of nodes.
"""
