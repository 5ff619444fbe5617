"""bin/soak: compress days of trading into minutes, and report growing resources."""
