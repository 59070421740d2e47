"""The reader's parts that need no process of their own."""
