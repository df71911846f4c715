"""Starting runs, on this machine or on others, and comparing them."""
