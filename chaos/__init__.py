"""A whole fleet under real faults: daemons, sockets, signals, a database, and who judges them."""
