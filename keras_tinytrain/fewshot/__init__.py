"""Few-shot learning: tasks, prototypes, augmented views, adaptation and meta-training."""
