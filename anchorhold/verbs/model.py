"""`anchorhold model ...`: look at a model folder as the fixed engine sees it, and convert its weights.

Exit status: 0 done, 1 usage or a model that is not served, with what it has that is not.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from anchorhold.command import Parser, Verbs
from anchorhold.input_files import MODEL

GROUPS = (32, 64, 128)


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "model",
        help="look at a model's folder, or convert its weights",
        description="The folder of a model holds config.json, tokenizer, template and safetensors. Exit status: 0 "
        "done, 1 usage or a model that is not served.",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    show = jobs.add_parser(
        "show",
        help="check a model and print what the engine would compute",
        description="This reads a model as the fixed engine does, and prints what the engine would compute.",
    )
    show.add_argument("folder", type=Path, metavar="MODEL_DIR", help="the folder of the model")
    show.set_defaults(run=run_show)
    quantize = jobs.add_parser(
        "quantize",
        help="write a model again with int8 or int4 weights",
        description="This writes a model again with int8 or int4 weights and their scales.",
    )
    quantize.add_argument(
        "folder", type=Path, metavar="MODEL_DIR", help="the folder of the model, its weights in bf16, f16 or f32"
    )
    quantize.add_argument("out", type=Path, metavar="OUT", help="the new folder")
    quantize.add_argument(
        "--format", choices=("int8", "int4"), default="int8", help="the format of the weights (default: int8)"
    )
    quantize.add_argument(
        "--group", type=int, choices=GROUPS, default=64, help="how many weights share a scale (default: 64)"
    )
    quantize.set_defaults(run=run_quantize)
    bf16 = jobs.add_parser(
        "convert",
        help="write a model again with bf16 weights",
        description="This writes a model again with bf16 weights.",
    )
    bf16.add_argument(
        "folder", type=Path, metavar="MODEL_DIR", help="the folder of the model, its weights in f16 or f32"
    )
    bf16.add_argument("out", type=Path, metavar="OUT", help="the new folder")
    bf16.set_defaults(run=run_convert)


def run_show(arguments: argparse.Namespace) -> int:
    from appliance.models import describe, load_model
    from appliance.models.folder import open_folder

    with MODEL.at(arguments.folder), open_folder(arguments.folder) as folder:
        described = describe(folder.file("config.json"))
        model = load_model(folder.tensors(), described)
        print(f"{'family':<16}{described.family.value}")
        for name, value in asdict(described.architecture).items():
            shown = f"{value['format'].value} {value['group'] or ''}".strip() if name == "quantization" else value
            print(f"{name.replace('_', ' '):<16}{shown}")
        print(f"{'rotary':<16}{model.rotary_digest.hex()}")
    return 0


def run_quantize(arguments: argparse.Namespace) -> int:
    return _convert(arguments, arguments.format, arguments.group)


def run_convert(arguments: argparse.Namespace) -> int:
    return _convert(arguments, "bf16", 0)


def _convert(arguments: argparse.Namespace, name: str, group: int) -> int:
    from anchorhold.owner.weight_conversion import convert
    from appliance.engine.fixed.architecture import Format, Quantization

    with MODEL.at(arguments.folder):
        convert(
            arguments.folder,
            arguments.out,
            Quantization(Format(name), group),
            lambda shard: print(f"converting {shard}", file=sys.stderr),
        )
    return 0
