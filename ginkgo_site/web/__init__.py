"""Request handling before Django's views: lanes, client addresses, login throttle."""
