"""How do I pre-train a backbone? On glyphs, on images, on motions: their trainers and their data."""
