"""Pages of the desk: read, arrange, show. An act: parse, one call, show the outcome."""
