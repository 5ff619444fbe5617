"""What stands between a client and Django's views: lanes, addresses, the throttle of logins."""
