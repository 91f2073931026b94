"""How do I teach a board from a browser? One page in one file, which a bundle brings along."""
