"""Compare the stored output of a portfolio with a reference run over the same log.

The caller passes the owners as `TenureSegment`s; this package does not know of nodes.
"""
