"""What a digest stands for, by name: values of one length that stand beside each other in manifests and receipts.

Made of `foundation.sized`, so that one in the place of another is an error of types.
"""

from __future__ import annotations

from typing import NewType

from foundation.sized import Digest32

ModelRoot = NewType("ModelRoot", Digest32)
"""The Merkle root over a pack's plaintext: which model."""
TokenizerDigest = NewType("TokenizerDigest", Digest32)
TemplateDigest = NewType("TemplateDigest", Digest32)
ModelConfigDigest = NewType("ModelConfigDigest", Digest32)
"""Of the configuration files that come with a model."""
ConfigurationDigest = NewType("ConfigurationDigest", Digest32)
"""Of the measured configuration as it stands in the image."""
ProfileDigest = NewType("ProfileDigest", Digest32)
"""Of an engine's profile."""
PriceDigest = NewType("PriceDigest", Digest32)
ManifestDigest = NewType("ManifestDigest", Digest32)
DecisionDigest = NewType("DecisionDigest", Digest32)
"""Of a decision by which a release was adopted; zeros where the administrator decided alone."""
