"""What a recorder records: files that grow, and websockets."""
