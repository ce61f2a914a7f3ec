"""Using a snapshot: many images in several forms, walks through the latent space, tables of styles."""
