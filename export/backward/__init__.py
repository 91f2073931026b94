"""The trainable part as a graph to go through backwards: its operators, gradients and memory."""
