"""What does a bundle, a plan or a task look like? One page in one file, and its values as JSON."""
