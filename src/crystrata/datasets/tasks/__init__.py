"""Tasks on compositions: their settings, label tables, the universe of keys, its split, and what is trained on."""
