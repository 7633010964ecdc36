"""What a written file says about its inputs, and how these are found again."""
