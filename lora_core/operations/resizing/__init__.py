"""Parts of `resize`: what a layer is in the file and what it becomes, DoRA, and what the file says of itself."""
