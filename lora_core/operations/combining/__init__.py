"""What combine is made of: the stack and its model, the changes of one layer, and the ways to make them one."""
