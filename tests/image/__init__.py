"""A whole image, built twice and taken apart: needs its inputs, which `make image` fetches once."""
