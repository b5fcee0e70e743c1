"""How the image is made and started."""
