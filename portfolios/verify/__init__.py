"""Is what a fleet left behind what one uninterrupted process would have left?

Replays the log and compares values. Who ran what is told to it as `TenureSegment`es; nothing here knows
of nodes.
"""
