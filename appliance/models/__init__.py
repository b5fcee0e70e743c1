"""From the files of a model to what the fixed engine computes with.

    described = describe(config_json)               what config.json says, strictly: an Architecture and a Rotation
    model = load_model(tensors, described)          every tensor by its role, shape and type checked; rotary tables

Families: Llama 2 and 3, Qwen2, Qwen3, Mistral. A key of `config.json` that is not known here is refused by name: it
might change the arithmetic. Bounds come before anything is made of a number.
"""

from __future__ import annotations

from appliance.models.config import Described, describe
from appliance.models.errors import ModelRefused
from appliance.models.loaded_model import LoadedModel, load_model
from appliance.models.rotary import Rotation

__all__ = ["Described", "LoadedModel", "ModelRefused", "Rotation", "describe", "load_model"]
