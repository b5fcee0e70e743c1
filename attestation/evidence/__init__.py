"""Evidence, parsed and not believed: sizes, reserved bits, versions. One module per format."""
