"""What the page asks of the server."""
