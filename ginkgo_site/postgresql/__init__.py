"""Django's PostgreSQL backend with deadlines on the client's side."""
