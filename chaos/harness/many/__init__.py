"""An installation of several web processes behind HAProxy, on a PostgreSQL that fails over."""
